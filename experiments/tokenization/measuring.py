"""Start the measurements of a run in a process of its own, and read what they wrote."""

import sys
from typing import Dict

from experiments.harness.processes import Processes
from experiments.harness.records import read_record
from experiments.tokenization.folder import StudyFolder
from experiments.tokenization.plan import StudyRun
from experiments.tokenization.records import AttackFigures, Parameters, RunResult, ScaleFigures, Training, WordFigures
from experiments.tokenization.training_command import check_success

STEPS = {"parameters": Parameters, "scale": ScaleFigures, "words": WordFigures, "attack": AttackFigures}


def steps_of(run: StudyRun) -> Dict[str, type]:
    """The steps that are measured on a run. Words have no other segmentations."""
    return {step: kind for step, kind in STEPS.items() if step != "attack" or run.tokenization != "words"}


def measure(folder: StudyFolder, run: StudyRun, processes: Processes) -> bool:
    """Measure a run in a process of its own; False if an earlier call did. Raises UsageError when the process fails."""
    if all(folder.record(run, step).exists() for step in steps_of(run)):
        return False
    log = folder.run(run) / "measurements.log"
    program = [sys.executable, "-m", "experiments.tokenization.measurements"]
    arguments = [str(folder.out.resolve()), run.tokenization, run.model]
    ended = processes.run([*program, *arguments], log, processes.environment)
    check_success(run, "measuring", ended.code, log)
    return True


def read_result(folder: StudyFolder, run: StudyRun) -> RunResult:
    """Everything that was measured on a run that is complete."""
    figures = {step: read_record(kind, folder.record(run, step)) for step, kind in steps_of(run).items()}
    return RunResult(training=read_record(Training, folder.record(run, "training")), **figures)
