#!/usr/bin/env python3
"""Kill training with SIGKILL at random moments, resume each time, and compare with a run that was never killed.

    python -m tests.stress.kill_and_resume [--workers 2] [--kills 20] [--updates 400] [--seed 1]

A third of the kills fall while a checkpoint is being written, some during start-up, the rest anywhere between. Prints how
many kills were survived, how many bytes the surviving run read twice or skipped, and whether the final parameters, optimizer
moments and stream state are identical to the last bit. Exit code 1 if not. About 5 minutes with one worker on two cores,
7 with two.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from tests.conftest import ROOT, free_port
from tests.integration.checkpoints import differences

UPDATE = re.compile(r"train_inner.*?bpb=([\d.]+).*?wpb=([\d.]+).*?num_updates=(\d+)")


def command(data: Path, save_dir: Path, updates: int, workers: int) -> List[str]:
    """fairseq-train with a small model and a checkpoint every second update."""
    train = str(Path(sys.executable).with_name("fairseq-train"))
    start = [train]
    if workers > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(workers)]
        start = [*launcher, "--master_addr", "127.0.0.1", "--master_port", str(free_port()), train]
    return [
        *(*start, str(data), "--user-dir", str(ROOT / "fairseq_sharnn"), "--task", "byte_level_lm", "--cpu"),
        *("--arch", "sha_rnn", "--decoder-embed-dim", "32", "--boom-dim", "64", "--context-length", "200"),
        *("--optimizer", "lamb_min_trust", "--lr", "5e-3", "--lr-scheduler", "fixed", "--warmup-updates", "20"),
        *("--clip-norm", "0.25", "--batch-size", "2", "--tokens-per-sample", "32", "--max-update", str(updates)),
        *("--save-interval-updates", "2", "--keep-interval-updates", "2", "--no-epoch-checkpoints"),
        *("--validate-interval-updates", "50", "--save-dir", str(save_dir), "--log-format", "simple"),
        *("--log-interval", "1"),
    ]


def descendants(process: int) -> List[int]:
    """Numbers of all descendants of a process, from /proc."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                stat = (folder / "stat").read_text()
                parents[int(folder.name)] = int(stat[stat.rindex(")") + 2 :].split()[1])
    below, new = [], [process]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        below += new
    return below


class TrainingProcess:
    """A training process, and its output in a file that can be read while it runs."""

    def __init__(self, arguments: List[str], log: Path):
        self.log = log
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                arguments, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )

    @property
    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def updates(self) -> Dict[int, Tuple[str, float]]:
        """Bits per byte and bytes of each update that was logged."""
        return {int(n): (bpb, float(wpb)) for bpb, wpb, n in UPDATE.findall(self.output)}

    def kill(self) -> None:
        """Kill all of its processes; torchrun gives its workers sessions of their own."""
        for number in [*descendants(self.process.pid), self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait()

    def wait_for(self, condition, limit: float = 120.0) -> bool:
        """Wait until `condition()` holds. Returns False if the process ended first, or after `limit` seconds."""
        end = time.monotonic() + limit
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                return False
            time.sleep(0.0005)
        return True


def kill_at_random_moment(run: TrainingProcess, save_dir: Path, rng: random.Random, kind: str) -> bool:
    """Kill a run after a random time. Returns False if it had ended by itself."""
    if kind == "start-up":
        time.sleep(rng.uniform(0.5, 6.0))
    else:
        if not run.wait_for(lambda: UPDATE.search(run.output) is not None):
            return False
        time.sleep(rng.uniform(0.0, 1.5))
        if kind == "writing" and not run.wait_for(lambda: any(save_dir.glob("*.tmp"))):
            return False
        if kind == "writing":
            time.sleep(rng.uniform(0.0, 0.003))
    if run.process.poll() is not None:
        return False
    run.kill()
    return True


def kill_and_resume(arguments: argparse.Namespace, data: Path, folder: Path) -> Tuple[int, Dict[str, int], Dict]:
    """Kill and resume as often as asked for, then finish: kills survived, kills by kind, last record of each update."""
    rng = random.Random(arguments.seed)
    save_dir = folder / "killed"
    survived, kinds, updates = 0, {}, {}
    pending: Optional[str] = None
    kinds_in_turn = ["writing", "training", "training", "writing", "start-up", "training"]
    for number in range(arguments.kills + 1):
        final = number == arguments.kills
        run = TrainingProcess(
            command(data, save_dir, arguments.updates, arguments.workers), folder / f"life{number}.log"
        )
        kind = kinds_in_turn[number % len(kinds_in_turn)]
        if final:
            run.process.wait()
        elif not kill_at_random_moment(run, save_dir, rng, kind):
            print(run.output[-2000:])
            raise SystemExit(f"run {number} ended by itself: give more --updates")
        updates.update(run.updates())
        if pending is not None and (final or kind != "start-up" or run.updates()):
            survived += 1 if run.updates() else 0
        elif pending is not None:
            survived += 1  # killed in start-up, before an update: the next run shows whether anything was lost
        pending = kind
        if not final:
            kinds[kind] = kinds.get(kind, 0) + 1
            print(f"  kill {number + 1:2d} ({kind}): at update {max(updates, default=0)}", flush=True)
        elif run.process.returncode != 0:
            print(run.output[-3000:])
    return survived, kinds, updates


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and checkpoints")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kill_and_resume_"))
    import pydoc_data.topics

    text = Path(pydoc_data.topics.__file__).read_bytes()
    data = folder / "data"
    data.mkdir()
    for split, (start, stop) in {"train": (0, 60_000), "valid": (60_000, 60_500)}.items():
        (data / split).write_bytes(text[start:stop])

    print(f"{arguments.workers} worker(s): {arguments.updates} updates without interruption ...", flush=True)
    whole = TrainingProcess(command(data, folder / "whole", arguments.updates, arguments.workers), folder / "whole.log")
    whole.process.wait()
    expected = whole.updates()
    if whole.process.returncode != 0 or len(expected) != arguments.updates:
        print(whole.output[-3000:])
        return 1
    survived, kinds, updates = kill_and_resume(arguments, data, folder)
    skipped = sum(max(0.0, expected[n][1] - updates.get(n, ("", 0.0))[1]) for n in expected)
    twice = sum(max(0.0, count - expected.get(n, ("", 0.0))[1]) for n, (_, count) in updates.items())
    other = [n for n in expected if updates.get(n, ("",))[0] != expected[n][0]]
    wrong = differences(folder / "whole" / "checkpoint_last.pt", folder / "killed" / "checkpoint_last.pt")
    print(f"kills survived: {survived} of {arguments.kills} ({', '.join(f'{n} {kind}' for kind, n in kinds.items())})")
    print(f"bytes read twice: {twice:.0f}, skipped: {skipped:.0f}, of {sum(n for _, n in expected.values()):.0f}")
    print(f"updates whose loss differs: {len(other)} of {len(expected)}")
    print(
        f"final parameters, optimizer moments and stream state: {'identical' if not wrong else f'different: {wrong[:5]}'}"
    )
    if arguments.keep:
        print(f"kept: {folder}")
    else:
        shutil.rmtree(folder)
    return 0 if survived == arguments.kills and not (twice or skipped or other or wrong) else 1


if __name__ == "__main__":
    sys.exit(main())
