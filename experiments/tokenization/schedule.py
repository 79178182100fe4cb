"""All runs, as many at a time as there are cores for, with one line of progress."""

import multiprocessing
import os
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, wait
from typing import Dict

from tqdm import tqdm

from experiments.tokenization.analysis import analyse
from experiments.tokenization.plan import Folder, Plan, Run
from experiments.tokenization.texts import updates_of
from experiments.tokenization.training import processes, train, updates_done


def complete(plan: Plan, folder: Folder, run: Run, about: Dict) -> None:
    """Train a run and measure it; what is there already is not done again."""
    warnings.filterwarnings("ignore")  # torch's, of fairseq's own code: they would tear the line of progress
    train(plan, folder, run, about)
    analyse(plan, folder, run, about)


def end_with_parent() -> None:
    """In a worker: when the study has been killed, stop what is being trained, and end."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1.0)
        processes.stop()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_all(plan: Plan, folder: Folder, abouts: Dict[str, Dict], jobs: int) -> None:
    """Complete all runs, `jobs` at a time, each on one core. Raises the first error, when the others are done."""
    total = {run: updates_of(plan, abouts[run.tokenization]) for run in plan.runs}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=end_with_parent) as pool, tqdm(
        total=sum(total.values()), unit="update", mininterval=0.5, smoothing=0.05
    ) as bar:
        work = {pool.submit(complete, plan, folder, run, abouts[run.tokenization]): run for run in total}
        unfinished = set(work)
        while unfinished:
            done, unfinished = wait(unfinished, timeout=2.0)
            finished = {work[future] for future in work if future.done()}
            bar.n = sum(total[run] if run in finished else updates_done(folder, run) for run in total)
            active = [run.name for run in total if run not in finished and updates_done(folder, run)]
            bar.set_description(f"{len(finished)}/{len(total)} runs done; {' and '.join(active[:jobs]) or 'starting'}")
            bar.refresh()
            if any(future.exception() is not None for future in done if not future.cancelled()):
                for other in unfinished:
                    other.cancel()  # those that have begun are finished: their work is kept
        bar.n = bar.total
    for future in work:
        if not future.cancelled():
            future.result()
