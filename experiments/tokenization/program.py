"""What tokenization does to a perplexity: one text and one budget as bytes, words and word pieces, for two models.

    scripts/tokenization_study.py text.txt --out results/NAME

Trains SHA-RNN and transformer_lm on each tokenization, each run on one core, and writes REPORT.md, plots and figures.json
into the output folder. To resume an interrupted study, run the same command again: what is finished is not repeated. The
plots need matplotlib.
"""

import argparse
import hashlib
import logging
import os
import platform
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

from experiments.harness.folder import Claim
from experiments.harness.machine import versions
from experiments.harness.plots import check_matplotlib
from experiments.harness.processes import check_fairseq
from experiments.harness.progress import Progress, Steps, duration
from experiments.harness.runner import Runner
from experiments.tokenization.budget import update_count
from experiments.tokenization.folder import PLAN, StudyFolder
from experiments.tokenization.measuring import measure, read_result
from experiments.tokenization.plan import Plan, StudyRun, add_plan_options, check_least, make_plan
from experiments.tokenization.records import Manifest, StudyResult
from experiments.tokenization.report import write_report
from experiments.tokenization.text_splits import find_cuts, read_text, write_splits
from experiments.tokenization.training_command import train
from fairseq_sharnn.errors import UsageError, exit_with_one_line

PACKAGES = ("torch", "numpy", "sentencepiece", "sacremoses", "matplotlib", "ve-fairseq", "fairseq-fixed", "fairseq")
TRAINING, MEASURING = "training", "measuring"  # kinds of steps
UPDATE_SECONDS, RUN_SECONDS = 0.1, 90.0  # rough: of an update with the default sizes, and of measuring a run


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="a text file, UTF-8; unpacked if its name ends in .xz")
    parser.add_argument("--first-bytes", type=int, metavar="N", help="read only the first N bytes (default: all)")
    parser.add_argument(
        "--out", required=True, metavar="results/NAME", help="folder of the report; its work/ has all other files"
    )
    add_plan_options(parser)
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="runs at a time (default: %(default)s)"
    )
    return parser


@exit_with_one_line()
def main() -> None:
    """Do the whole study in the output folder. On Ctrl-C every process is ended, and what is finished stays."""
    begun = time.time()
    args = parser().parse_args()
    logging.disable(logging.INFO)
    for flag, value in (("--jobs", args.jobs), ("--first-bytes", args.first_bytes)):
        check_least(flag, 1 if value is None else value)
    make_plan(args, "", "")  # wrong options are found before a long text is read
    text = read_text(args.data, args.first_bytes)
    plan = make_plan(args, os.path.basename(args.data), hashlib.sha256(text).hexdigest())
    find_cuts(text, plan)
    check_matplotlib()
    check_fairseq()
    folder = StudyFolder(Path(args.out))
    claim = Claim(folder.out, plan.identity(), "tokenization study", PLAN)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        manifests = _prepare(text, plan, folder, claim)
        _train_and_measure(plan, folder, manifests, args.jobs)
        result = _collect(plan, folder, manifests)
        write_report(folder.out, result)
    except KeyboardInterrupt:
        raise UsageError("interrupted; what is finished stays: run the same command again to resume") from None
    except OSError as error:
        where = error.filename or folder.out
        raise UsageError(
            f"cannot write {where}: {error.strerror or error}; then run the same command again to resume"
        ) from None
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one, at the end, is no interruption of the study
        claim.close()
    print(f"{folder.out / 'REPORT.md'}: {len(result.runs)} runs in {duration(time.time() - begun)}")


def _prepare(text: bytes, plan: Plan, folder: StudyFolder, claim: Claim) -> Dict[str, Manifest]:
    """Prepare the data of all tokenizations. Leaves nothing behind if the text does not allow one of them."""
    from experiments.tokenization.data import prepare_data  # with fairseq, which wrong options need not wait for

    write_splits(text, plan, folder)
    manifests = {}
    try:
        for tokenization in plan.tokenizations:
            print(f"preparing {tokenization}", flush=True)
            manifests[tokenization] = prepare_data(plan, folder, tokenization)
    except UsageError:
        claim.withdraw()
        raise
    return manifests


def _train_and_measure(plan: Plan, folder: StudyFolder, manifests: Dict[str, Manifest], jobs: int) -> None:
    """Train and measure all runs, `jobs` at a time."""
    updates = max(update_count(plan, manifest) for manifest in manifests.values())
    steps = {
        TRAINING: Steps(len(plan.runs), UPDATE_SECONDS * updates, jobs),
        MEASURING: Steps(len(plan.runs), RUN_SECONDS, jobs),
    }
    runner = Runner(Progress("study", steps))

    def train_run(run: StudyRun) -> bool:
        return train(plan, folder, run, manifests[run.tokenization], runner.processes)

    try:
        _do_all(runner, TRAINING, plan, train_run)
        _do_all(runner, MEASURING, plan, lambda run: measure(folder, run, runner.processes))
    finally:
        runner.stop()


def _collect(plan: Plan, folder: StudyFolder, manifests: Dict[str, Manifest]) -> StudyResult:
    return StudyResult(
        plan=plan,
        command=" ".join(["scripts/tokenization_study.py", *map(shlex.quote, sys.argv[1:])]),
        python=platform.python_version(),
        versions=versions(PACKAGES),
        manifests=manifests,
        runs={run: read_result(folder, run) for run in plan.runs},
    )


def _do_all(runner: Runner, kind: str, plan: Plan, work: Callable[[StudyRun], bool]) -> None:
    """Do one kind of step on all runs. After a failure those that have begun are finished, so that their work is kept."""
    failures: List[UsageError] = []

    def step(run: StudyRun) -> bool:
        if failures:
            return False
        try:
            return work(run)
        except UsageError as error:
            failures.append(error)
            return True

    runner.do_once({run.name: lambda run=run: step(run) for run in plan.runs}, kind)
    if failures:
        raise UsageError(f"{failures[0]}; what is finished stays: run the same command again to resume")


def _interrupt(*unused: Any) -> None:
    raise KeyboardInterrupt
