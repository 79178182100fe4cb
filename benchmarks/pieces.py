"""Where the time of an update goes: each piece by itself, compared with a plain matrix product and a plain copy.

The operations are counted from the formulas: 2 for a multiply-add; the backward pass needs twice the forward pass. The
memory rows of attention take no gradient, so its backward products are those of the queries and of the chunk.
"""

import time
from statistics import median
from typing import Callable, Dict, List

import torch

from benchmarks.models import PRECISIONS, Case, PackageModel
from fairseq_sharnn.modules.memory import Memory
from fairseq_sharnn.modules.sha_rnn import SHARNN


def timed(work: Callable[[], None], device: str) -> float:
    """Seconds of one call."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def operations(case: Case) -> Dict[str, float]:
    """Operations that one training update needs, by piece."""
    tokens, width, rows = case.tokens, case.width, case.context
    heads, folds = len(case.attention_layers), case.boom_width // case.width * case.width
    lstm = case.layers * tokens * 2 * 8 * width * width * 3
    boom = case.layers * tokens * 2 * width * folds * 3
    # two products forward, two backward over all rows, and two more for the chunk's own rows (half of them masked)
    attention = heads * tokens * (2 * width * (4 * rows + case.length) + 2 * width * width * 3)
    return {"LSTM": lstm, "attention": attention, "Boom": boom}


def evaluation_operations(case: Case) -> float:
    """Operations that scoring one byte needs: the forward pass with the output projection."""
    width, folds = case.width, case.boom_width // case.width * case.width
    # a query sees the C - T rows of memory and, on average, half of the chunk's own
    rows = case.context - case.length / 2
    attention = len(case.attention_layers) * (4 * width * rows + 2 * width * width)
    return case.layers * 2 * (8 * width * width + width * folds) + attention + 2 * width * case.sizes().vocab


def bytes_to_move(case: Case, parameters: int) -> Dict[str, float]:
    """The fewest bytes that the pieces bound by memory read and write.

    Optimizer: gradients are read for the norm of the clipping and scaled; then weights, gradients and two moments are
    read, three of them are written, and the update is written and read for its norm. Rest: layer norms, dropouts and
    sums, about 9 values [T, B, D] for each layer, each read and written forward and backward.
    """
    item = torch.empty((), dtype=PRECISIONS[case.precision]).element_size()
    return {"optimizer": parameters * 4 * 12, "rest": case.layers * 9 * case.tokens * case.width * item * 4}


def pieces(case: Case) -> Dict[str, Callable[[], None]]:
    """For each piece a program that does its work in one update: forward and backward, in all layers that have it."""
    measured = PackageModel(case)
    block = measured.model.blocks[(case.attention_layers or (0,))[0]]
    factory = {"device": case.device, "dtype": PRECISIONS[case.precision]}
    shape = (case.length, case.lanes, case.width)
    x, upstream = torch.randn(shape, **factory), torch.randn(shape, **factory)
    past = torch.randn(case.lanes, case.context - case.length, case.width, **factory)
    memory = Memory.from_rows(past)

    def repeat(count: int, forward: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], None]:
        def work() -> None:
            for _ in range(count):
                forward(x.detach().requires_grad_()).backward(upstream)

        return work

    def attend(h: torch.Tensor) -> torch.Tensor:
        return block.attention(h, h, *memory.extended(h.transpose(0, 1), case.context).to_attend())

    def optimize() -> None:
        for parameter in measured.model.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.nn.utils.clip_grad_norm_(measured.model.parameters(), 0.25)
        measured.optimizer.step()

    measured.prepare("training")
    work = {
        "update": measured.training,
        "LSTM": repeat(case.layers, lambda h: block._recur(h, block.empty_state(h))[0]),
        "Boom": repeat(case.layers, block.boom),
        "optimizer": optimize,
    }
    if case.attention_layers:
        work["attention"] = repeat(len(case.attention_layers), attend)
    return work


def yardsticks(case: Case) -> Dict[str, Callable[[], None]]:
    """A plain matrix product and a plain copy: the speed that this machine reaches."""
    size = 8192 if case.device.startswith("cuda") else 2048
    factory = {"device": case.device, "dtype": PRECISIONS[case.precision]}
    a, b, product = (torch.randn(size, size, **factory) for _ in range(3))
    source = torch.randn(20_000_000, **factory)
    target = torch.empty_like(source)
    return {"product": lambda: torch.mm(a, b, out=product), "copy": lambda: target.copy_(source)}


def yardstick_rates(case: Case, seconds: Dict[str, float]) -> Dict[str, float]:
    """Operations/s of the product, and bytes/s of the copy (read and written)."""
    size = 8192 if case.device.startswith("cuda") else 2048
    item = torch.empty((), dtype=PRECISIONS[case.precision]).element_size()
    return {"product": 2 * size**3 / seconds["product"], "copy": 2 * item * 20_000_000 / seconds["copy"]}


def breakdown(case: Case, repeats: int) -> Dict:
    """Median seconds of an update, of each piece and of the yardsticks, in turns; `rest` is the update minus the pieces."""
    work = {**pieces(case), **yardsticks(case)}
    seconds: Dict[str, List[float]] = {name: [] for name in work}
    for round_number in range(repeats + 1):
        for name, piece in work.items():
            taken = timed(piece, case.device)
            if round_number > 0:
                seconds[name].append(taken)
    medians = {name: median(taken) for name, taken in seconds.items()}
    rates = yardstick_rates(case, medians)
    parameters = sum(p.numel() for p in SHARNN(case.sizes()).parameters())
    needed, moved = operations(case), bytes_to_move(case, parameters)
    rows = {name: medians[name] for name in ("LSTM", "attention", "Boom", "optimizer") if name in medians}
    rows["rest"] = medians["update"] - sum(rows.values())
    return {
        "evaluation_operations_per_byte": evaluation_operations(case),
        "product_ops_per_s": rates["product"],
        "copy_bytes_per_s": rates["copy"],
        "update_seconds": medians["update"],
        "pieces": {
            name: {"seconds": taken, "operations": needed.get(name), "bytes": moved.get(name)}
            for name, taken in rows.items()
        },
    }
