"""Several workers on CPU, through torchrun and the real fairseq-train; resumes without torchrun's own processes."""

import math
import os
import re
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from fairseq.dataclass.configs import DistributedTrainingConfig

from fairseq_sharnn.compat.option_checks import check_workers
from fairseq_sharnn.errors import UsageError
from tests.conftest import MICRO, RECIPE, USER_DIR, eval_lm, free_port, run_command, write_corpus
from tests.integration.checkpoints import differences, load
from tests.integration.forked import train_forked, train_workers

UPDATES = 50
# By RECIPE's rate of 5e-3 rounding grows up to 6e-4 in 50 updates, depending on the seed: too much for a bound of 1e-5.
CALM = ("--lr", 1e-3, "--warmup-updates", 5, "--dropout", 0)
EVERY = ("--save-interval-updates", 1, "--validate-interval-updates", 20)


def torchrun(data, save_dir, *arguments, workers=2, **options):
    return run_command(
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", workers),
        *("--master_addr", "127.0.0.1", "--master_port", free_port(), Path(sys.executable).with_name("fairseq-train")),
        *(data, "--user-dir", USER_DIR, "--task", "byte_level_lm", *MICRO, *RECIPE, "--cpu"),
        *("--tokens-per-sample", 32, "--batch-size", 2, "--log-format", "simple", "--log-interval", 1),
        *(*CALM, "--save-dir", save_dir, *arguments),
        **options,
    )


def workers(data, save_dir, *arguments, count=2):
    """The same command without torchrun's own processes, which take longer than these trainings."""
    return train_workers(*(count, data, save_dir, "--batch-size", 2, *CALM), *arguments)


def curve(finished):
    assert finished.code == 0, finished.output[-3000:]
    found = re.findall(r"train_inner.*?loss=([\d.]+).*?num_updates=(\d+)", finished.output)
    return {int(update): float(loss) for loss, update in found}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("small"), 5003, 501, 300)


@pytest.fixture(scope="module")
def two(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return folder, torchrun(small, folder, "--max-update", UPDATES, *EVERY)


@pytest.fixture(scope="module")
def one(small, tmp_path_factory):
    """One worker with all the lanes."""
    folder = tmp_path_factory.mktemp("one")
    finished = train_forked(
        *(small, folder, *CALM, "--max-update", UPDATES, "--log-interval", 1),
        *EVERY,
    )
    return folder, finished


def two_gpus_are_seen() -> None:
    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: 2


def test_cpu_means_cpu_where_gpus_are_seen(small, tmp_path):
    """fairseq would start a worker for each GPU, and move norms of gradients there."""
    options = ("--distributed-world-size", 2, "--max-update", 3)
    finished = train_forked(small, tmp_path, *options, before=two_gpus_are_seen)
    assert finished.code == 0, finished.output[-3000:]
    assert "training on 1 devices" in finished.output


def test_workers_that_fairseq_starts_end_in_their_own_words(small, tmp_path):
    """As with several GPUs: what a worker refuses is no traceback of the process that started it."""
    program = tmp_path / "start.py"
    program.write_text(
        "import sys\n"
        "if __name__ == '__main__':\n"
        "    import torch\n"
        "    torch.cuda.device_count = lambda: 2\n"
        "    from fairseq_cli.train import cli_main\n"
        "    cli_main()\n"
    )
    finished = run_command(
        *(sys.executable, program, small, "--user-dir", USER_DIR, "--task", "byte_level_lm", *MICRO, *RECIPE, "--cpu"),
        *("--tokens-per-sample", 32, "--batch-size", 4000, "--save-dir", tmp_path / "saved"),
        *("--distributed-world-size", 2, "--distributed-init-method", f"file://{tmp_path}/meeting"),
        *("--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp"),
        env=list_threads(tmp_path),
    )
    assert finished.code == 1 and "Traceback" not in finished.output, finished.output[-3000:]
    assert "fewer than the 8000 lanes of --batch-size 4000 on each of 2 workers" in finished.output
    if Path("/proc/self/task").exists():  # the three processes end without a thread that may abort them
        assert re.findall(r"at exit: \[(.*)\]", finished.output) == [""] * 3
        assert len(re.findall(r"before the end: \[\S*gloo.*\]", finished.output)) == 2, finished.output[-3000:]


@pytest.mark.parametrize(
    "gpus, options, message",
    [
        (0, {}, None),
        (2, {"distributed_world_size": 2}, None),
        (1, {"distributed_world_size": 2}, "--distributed-world-size 2 needs 2 GPUs, and fairseq finds 1: give 1"),
        (0, {"distributed_world_size": 3}, "--distributed-world-size 3 needs 3 GPUs, and fairseq finds 0: give 1"),
        (
            0,
            {"distributed_init_method": "tcp://a:1"},
            "--distributed-init-method tcp://a:1 starts a worker on each GPU",
        ),
        (8, {"distributed_init_method": "tcp://a:1", "distributed_world_size": 16}, None),  # two machines
        (0, {"distributed_init_method": "tcp://a:1", "distributed_no_spawn": True}, None),  # each started by hand
        (0, {"distributed_port": 1, "distributed_world_size": 2}, None),  # by SLURM
    ],
)
def test_workers_that_fairseq_could_not_start_are_refused(gpus, options, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(UsageError, match=re.escape(message)) if message else nullcontext():
        check_workers(DistributedTrainingConfig(**{"distributed_world_size": 1, **options}))


def test_two_workers_follow_one_with_all_the_lanes(one, two):
    assert "training on 2 devices" in two[1].output and "training on 1 devices" in one[1].output
    alone, together = curve(one[1]), curve(two[1])
    assert len(alone) == UPDATES and together == pytest.approx(alone, abs=1.1e-3)  # printed to three decimals
    models = [load(folder / "checkpoint_last.pt")["model"] for folder in (one[0], two[0])]
    for name, parameter in models[0].items():
        scale = parameter.abs().max().clamp(min=1e-3)
        assert (models[1][name] - parameter).abs().max() / scale < 1e-3, name


def losses(folder):
    """Loss of each update in nats, in full, from the running sums in the checkpoint after each."""
    found, before = {}, (0.0, 0.0)
    for update in range(1, UPDATES + 1):
        (path,) = [*folder.glob(f"checkpoint_*_{update}.pt")] or [folder / "checkpoint1.pt"]
        meters = load(path)["extra_state"]["metrics"]["train"]
        (loss,) = [state for _, key, _, state in meters if key == "loss"]
        now = (float(loss["sum"]), float(loss["count"]))
        if now[1] < before[1]:  # fairseq starts the sums anew with the epoch
            before = (0.0, 0.0)
        if now[1] > before[1]:
            found[update] = math.log(2) * (now[0] - before[0]) / (now[1] - before[1])
        before = now
    return found


def test_losses_agree_to_five_digits(one, two):
    alone, together = losses(one[0]), losses(two[0])
    assert len(alone) >= UPDATES - 1 and alone.keys() == together.keys()
    for update, loss in alone.items():
        assert together[update] == pytest.approx(loss, abs=1e-5), update


@pytest.mark.parametrize("count, lanes", [(2, 3), (1, 5)])
def test_two_workers_resume_in_other_lanes(small, tmp_path, count, lanes):
    """Uneven lanes at the end of the epoch, one perhaps with nothing but padding: no hang, no byte lost."""
    first = workers(small, tmp_path, "--max-update", 20)
    rest = workers(small, tmp_path, "--max-epoch", 1, "--batch-size", lanes, count=count)
    assert rest.code == 0, rest.output[-3000:]
    assert f"in {count * lanes} lanes of chunks of 32 bytes (it was 4 of 32)" in rest.output
    counts = [float(n) for run in (first, rest) for n in re.findall(r"train_inner.*?wpb=([\d.]+)", run.output)]
    assert sum(counts) == 5000
    assert not re.search(r"\bnan\b", rest.output.lower())


def test_validation_counts_each_byte_once_over_all_workers(one, two):
    """501 bytes in 8 validation batches of 4 lanes; both print the same bits per byte."""
    printed = [re.findall(r"valid on 'valid' subset \| bpb ([\d.]+)", run.output) for _, run in (one, two)]
    values = [[float(value) for value in values] for values in printed]
    assert len(values[0]) >= 3 and values[0] == pytest.approx(values[1], abs=2e-4)


@pytest.mark.parametrize("options", [(), ("--update-freq", 2), ("--fp16", "--fp16-init-scale", 4)])
def test_two_workers_resume_exactly(small, tmp_path, options):
    common = ("--dropout", 0.1, *options)
    whole = workers(small, tmp_path / "whole", *common, "--max-update", 9)
    assert whole.code == 0, whole.output[-3000:]
    workers(small, tmp_path / "broken", *common, "--max-update", 6)
    again = workers(small, tmp_path / "broken", *common, "--max-update", 9)
    assert again.code == 0, again.output[-3000:]
    assert differences(tmp_path / "whole" / "checkpoint_last.pt", tmp_path / "broken" / "checkpoint_last.pt") == []


def test_one_worker_resumes_for_two(small, one, tmp_path):
    """Stop with two workers of two lanes, resume with one of four: the lanes are the same, so is the trajectory."""
    workers(small, tmp_path, "--max-update", 20)
    rest = train_forked(*(small, tmp_path, *CALM, "--max-update", UPDATES, "--log-interval", 1))
    resumed = curve(rest)
    assert len(resumed) == UPDATES - 20 and "rebuilt" not in rest.output
    expected = curve(one[1])
    assert all(loss == pytest.approx(expected[update], abs=2e-3) for update, loss in resumed.items())


def test_epochs_end_together(small, tmp_path):
    """Jittered lengths, an odd number of bytes, groups of three chunks: no worker waits for another."""
    finished = torchrun(small, tmp_path, "--max-epoch", 2, "--update-freq", 3, "--no-save")
    assert finished.code == 0, finished.output[-3000:]
    counts = [float(n) for n in re.findall(r"train_inner.*?wpb=([\d.]+)", finished.output)]
    assert sum(counts) == 2 * 5000  # 4 lanes of 1,250 of 5,003 bytes


LIST_THREADS = """
import atexit, contextlib, os, pathlib, sys, time

of_the_group = set()

def threads():
    names = {}
    for comm in pathlib.Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):  # it has just ended
            names[comm.parent.name] = comm.read_text().strip()
    return names

def threads_of_gloo():
    if tuple(map(int, torch.__version__.split(".")[:2])) > (2, 5):
        return [name for name in threads().values() if "gloo" in name]
    return [f"gloo_{thread}" for thread in threads() if thread in of_the_group]  # they have no names yet

def tell(when):  # in one piece: the workers share a pipe
    os.write(1, f"{when}: [{' '.join(threads_of_gloo())}]\\n".encode())

@atexit.register
def at_exit():
    if "fairseq" in sys.modules:
        patience = time.monotonic() + 5  # a thread that was joined may be listed for a moment
        while threads_of_gloo() and time.monotonic() < patience:
            time.sleep(0.05)
        tell("at exit")

import torch.distributed
begin, end = torch.distributed.init_process_group, torch.distributed.destroy_process_group

def init_process_group(*arguments, **options):
    before = threads()
    begin(*arguments, **options)
    of_the_group.update(threads().keys() - before.keys())

torch.distributed.init_process_group = init_process_group
torch.distributed.destroy_process_group = lambda: (tell("before the end"), end())
"""


def list_threads(folder):
    """The environment in which processes print their threads of gloo, at exit and before groups end."""
    (folder / "sitecustomize.py").write_text(LIST_THREADS)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's list of threads")
def test_finished_workers_leave_no_thread_of_their_group(small, tmp_path):
    """A thread of gloo that outlives the training aborts, now and then, a worker that has done all its work."""
    finished = torchrun(small, tmp_path / "save", "--max-update", 3, env=list_threads(tmp_path))
    assert finished.code == 0, finished.output[-3000:]
    assert len(re.findall(r"before the end: \[\S*gloo.*\]", finished.output)) == 2, finished.output[-3000:]
    assert re.findall(r"at exit: \[(.*)\]", finished.output) == ["", ""]


def test_evaluation_by_a_lone_worker_is_evaluation(small, two):
    """As a job's template may start it: one process, launched like several."""
    options = ("--task", "byte_level_lm", "--path", two[0] / "checkpoint_last.pt", "--gen-subset", "test", "--cpu")
    launched = run_command(
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", 1, "--master_port", free_port()),
        *(Path(sys.executable).with_name("fairseq-eval-lm"), small, "--user-dir", USER_DIR, *options),
        *("--tokens-per-sample", 32, "--batch-size", 4),
    )
    alone = eval_lm(small, two[0] / "checkpoint_last.pt", "--tokens-per-sample", 32, "--batch-size", 4)
    assert launched.code == alone.code == 0, launched.output[-3000:]
    results = [re.search(r"Loss \(base 2\): ([\d.]+)", each.output)[1] for each in (launched, alone)]
    assert results[0] == results[1] and "Traceback" not in launched.output


def test_evaluation_tools_refuse_several_workers_in_one_line(small, two):
    """What torchrun would start, as one of its processes."""
    finished = eval_lm(
        *(small, two[0] / "checkpoint_last.pt", "--tokens-per-sample", 32),
        env={"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
    )
    assert finished.code == 1 and "Traceback" not in finished.output
    assert finished.line("error:") == (
        "error: fairseq's evaluation tools run in one process: start them without torchrun, and split the work with "
        "--num-shards and --shard-id; without torchrun, unset RANK WORLD_SIZE MASTER_ADDR MASTER_PORT"
    )


def test_a_checkpoint_of_two_workers_is_evaluated_by_fairseqs_tools(small, two):
    scored = eval_lm(small, two[0] / "checkpoint_last.pt", "--tokens-per-sample", 32)
    assert "Evaluated 300 tokens" in scored.output
