"""What is measured before the training: is it right, which kernels run, how fast, and in how much memory."""

import contextlib
import io
import platform
import subprocess
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, Iterator, List, Tuple

import torch

from benchmarks import loss_compare, machine
from benchmarks.models import PRECISIONS, Case, build
from benchmarks.worker import peak_bytes
from fairseq_sharnn.compat.gpu import prepare_lstms
from fairseq_sharnn.evaluation.golden import check_file
from fairseq_sharnn.portable.gpu import Card, Training, lstm_in_words, training_bytes

Row = Dict[str, Any]
GOLDEN = Path(__file__).resolve().parent.parent.parent / "tests" / "golden"
TYPES = {name: str(dtype)[len("torch.") :] for name, dtype in PRECISIONS.items()}


def the_machine(device: str) -> Iterator[Row]:
    """Versions, the card and its driver."""
    described = machine.describe(device, torch.get_num_threads())
    described["system"] = platform.platform()
    described["cuda"] = torch.version.cuda
    if device.startswith("cuda"):
        described["card"] = str(Card.of(device))
        described["cudnn"] = torch.backends.cudnn.version()
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            query = ["nvidia-smi", "--query-gpu=driver_version,power.limit,clocks.max.sm", "--format=csv,noheader"]
            found = subprocess.run(query, stdout=subprocess.PIPE, timeout=20, check=True)
            described["driver, power limit, clock"] = found.stdout.decode().strip().splitlines()[0]
    for name, value in described.items():
        yield {"what": name, "value": str(value)}


def golden(device: str) -> Iterator[Row]:
    """The golden tensors on the device, in float64 and float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    files = sorted(GOLDEN.glob("*.npz"))
    if not files:
        raise RuntimeError(f"no golden files in {GOLDEN}: run this in a clone of the repository")
    for path in files:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            passed = check_file(str(path), device)
        yield {"file": path.name, "result": "ok" if passed else "FAILS", "errors": " / ".join(_words(printed))}


def _words(printed: io.StringIO) -> List[str]:
    """The lines that `check_file` printed, without the columns that are in the table already."""
    return [" ".join(line.split()[2:]) for line in printed.getvalue().splitlines()]


def losses(device: str, updates: int) -> Iterator[Row]:
    """Losses on the device against those on the CPU, from the same start on the same bytes, without dropout."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for dtype in (torch.float64, torch.float32):
        here, there = (loss_compare._train(updates, dtype, 0.0, place) for place in (device, "cpu"))
        ours, cpu, plain = here["fairseq_sharnn"], there["fairseq_sharnn"], here["plain"]
        worst = max(abs(a - b) for a, b in zip(ours, cpu))
        worst_plain = max(abs(a - b) for a, b in zip(ours, plain))
        allowed = loss_compare.ALLOWED[dtype]
        yield {
            "type": str(dtype)[len("torch.") :],
            "updates": updates,
            "first loss": f"{ours[0]:.6f}",
            "last loss": f"{ours[-1]:.6f}",
            "largest difference from the CPU": f"{worst:.1e}",
            "from reference.py": f"{worst_plain:.1e}",
            "allowed": f"{allowed:.0e}",
            "result": "ok" if max(worst, worst_plain) <= allowed else "FAILS",
        }


def lstm_kernels(device: str, width: int, length: int, lanes: List[int], precisions: List[str]) -> Iterator[Row]:
    """What runs one LSTM layer, forward and backward: expected and found."""
    cuda = device.startswith("cuda")
    for precision in precisions:
        for count in lanes:
            dtype = PRECISIONS[precision]
            layer = torch.nn.LSTM(width, width).to(device=device, dtype=dtype)
            if cuda:
                prepare_lstms(layer, torch.device(device), torch.backends.cudnn.version() or 0)
            x = torch.randn(length, count, width, device=device, dtype=dtype, requires_grad=True)

            def work(layer=layer, x=x) -> None:
                layer(x)[0].float().sum().backward()

            work()
            row: Row = {"type": precision, "lanes": count}
            if cuda:
                version = torch.backends.cudnn.version() or 0
                row["expected"] = lstm_in_words(TYPES[precision], width, count, Card.of(device), version)
            largest = largest_kernels(work, cuda, 2)
            row["milliseconds"] = round(1e3 * median(seconds(work, cuda) for _ in range(3)), 2)
            row["largest kernels"] = "; ".join(f"{name} {share:.0%}" for name, _, _, share in largest)
            yield row


def seconds(work: Callable[[], Any], cuda: bool) -> float:
    """Seconds of one call, with all that it has the GPU do."""
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def largest_kernels(work: Callable[[], Any], cuda: bool, count: int) -> List[Tuple[str, int, float, float]]:
    """The kernels (on CPU: operations) that take most time in one call: name, calls, milliseconds, share."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(2):  # the first time counts the profiler's own start
        with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as found:
            seconds(work, cuda)
    rows = []
    for event in found.key_averages():
        if cuda and "CUDA" not in str(event.device_type):
            continue  # the operation that started the kernel would count its time again
        time_of = getattr(event, "self_device_time_total", None) if cuda else event.self_cpu_time_total
        time_of = event.self_cuda_time_total if time_of is None else time_of  # torch before 2.4
        rows.append((event.key, event.count, time_of / 1e3))
    whole = sum(milliseconds for *_, milliseconds in rows) or 1.0
    rows.sort(key=lambda row: -row[2])
    return [(name[:90], calls, milliseconds, milliseconds / whole) for name, calls, milliseconds in rows[:count]]


def speed(case: Case, names: List[str], repeats: int, workloads: List[str]) -> Iterator[Row]:
    """Milliseconds and bytes/s of each workload, and the peak of memory in training against the estimate."""
    machine.allow_tf32()
    cuda = case.device.startswith("cuda")
    for name in names:
        for workload in workloads:
            model = build(name, case)
            model.prepare(workload)
            unit = getattr(model, workload)
            unit()
            done = [_timed(unit, cuda) for _ in range(repeats)]
            row: Row = {
                "model": name,
                "type": case.precision,
                "lanes": 1 if workload == "generation" else case.lanes,
                "work": workload,
                "chunks": "jittered" if case.jittered and workload == "training" else "equal",
                "milliseconds": round(1e3 * median(taken for taken, _ in done), 2),
                "bytes/s": round(median(count / taken for taken, count in done)),
            }
            if workload == "training":
                row["peak GB"] = round(peak_bytes(case.device) / 1e9, 2)
                row["estimated GB"] = round(_estimate(model, case) / 1e9, 2) if name == "fairseq_sharnn" else ""
            yield row
            del model, unit


def _timed(unit: Callable[[], int], cuda: bool) -> Tuple[float, int]:
    """Seconds and bytes of a unit of work."""
    counts: List[int] = []
    taken = seconds(lambda: counts.append(unit()), cuda)
    return taken, counts[0]


def _estimate(model: Any, case: Case) -> int:
    # the benchmark keeps weights and gradients in the type of the activations, and two moments in float32
    item = torch.empty((), dtype=PRECISIONS[case.precision]).element_size()
    training = Training(case.lanes, case.length, TYPES[case.precision], bytes_a_parameter=2 * item + 8)
    return training_bytes(case.sizes(), model.parameters, training)


def update_kernels(case: Case) -> Iterator[Row]:
    """The five largest kernels of an update."""
    model = build("fairseq_sharnn", case)
    model.prepare("training")
    model.training()
    largest = largest_kernels(model.training, case.device.startswith("cuda"), 5)
    for name, calls, milliseconds, share in largest:
        yield {"kernel": name, "calls": calls, "milliseconds": round(milliseconds, 3), "share": f"{share:.0%}"}


def speed_cases(case: Case, lanes: List[int], precisions: List[str]) -> List[Case]:
    """Every type with every number of lanes, on jittered chunks; the first also on equal ones."""
    cases = [replace(case, lanes=count, precision=kind, jittered=True) for kind in precisions for count in lanes]
    return [*islice((replace(first, jittered=False) for first in cases), 1), *cases]
