"""What a comparison has found, as typed data: results.json, results.csv, and the source of the report and the plots."""

import csv
import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

from experiments.comparison.comparison import Comparison
from experiments.comparison.methods import method_results
from experiments.comparison.presets import ALL_METHODS, Preset
from experiments.comparison.records import ContextLengths, FittedContext, MethodResult
from experiments.comparison.run_result import RunResult, TrialResult, modes_of, run_result, trial_result
from experiments.comparison.splits import Split
from experiments.comparison.summary import Summary, summarise
from experiments.comparison.training_run import TrainingRun
from experiments.comparison.windows import Allowance
from experiments.harness.folder import write_json, write_text
from experiments.harness.machine import Machine
from experiments.harness.records import read_record


@dataclass(frozen=True)
class Setting:
    """What does not change while a comparison works.

    script, command: the program, and what was typed. device: what a training runs on. idle_memory: bytes that a Python
    process with fairseq holds before it does anything.
    """

    script: str
    command: str
    preset: Preset
    data: Dict[str, Split]
    machine: Machine
    device: str
    idle_memory: int


@dataclass(frozen=True)
class Results:
    """All figures; results.json has these fields.

    complete: whether nothing is left to do. allowance: the time that evaluations of stateless models may take. windows: by
    contestant. context: one trained model under other context lengths. trust: lines of trust logs, by title.
    methods: every contestant under all ways of evaluation, if they were measured.
    """

    setting: Setting
    complete: bool
    summaries: List[Summary]
    trials: List[TrialResult]
    runs: List[RunResult]
    long: List[RunResult]
    windows: Dict[str, FittedContext] = field(default_factory=dict)
    allowance: Optional[Allowance] = None
    context: Optional[ContextLengths] = None
    trust: Dict[str, List[Dict[str, Any]]] = field(default_factory=dict)
    methods: List[MethodResult] = field(default_factory=list)

    def title_of(self, name: str) -> str:
        """The title of a contestant."""
        return next(summary.title for summary in self.summaries if summary.name == name)


def collect(comparison: Comparison, setting: Setting, complete: bool) -> Results:
    """The results from the records as they are now."""
    all_methods = comparison.preset.methods == ALL_METHODS
    windows = {item.name: comparison.fitted_context(item) for item in comparison.contestants}

    def result(run: TrainingRun) -> RunResult:
        contestant = run.job.contestant
        return run_result(run, modes_of(contestant, windows[contestant.name].context))

    runs = [result(run) for run in comparison.runs]
    return Results(
        setting=setting,
        complete=complete,
        summaries=[
            summarise(item, [run for run in runs if run.contestant == item.name], windows[item.name])
            for item in comparison.contestants
        ],
        trials=[trial_result(comparison, trial) for trial in comparison.trials],
        runs=runs,
        long=[result(run) for run in comparison.long_runs],
        windows=windows,
        allowance=comparison.allowance(),
        context=read_record(ContextLengths, comparison.out / "context.json"),
        trust=_trust_ratios(comparison),
        methods=method_results([run for run in comparison.runs if run.usable]) if all_methods else [],
    )


def _trust_ratios(comparison: Comparison) -> Dict[str, List[Dict[str, Any]]]:
    """Trust ratios over training of the first seed's runs that log them, by title."""
    from fairseq_sharnn.optim.trust_log import read_trust_log  # it imports fairseq, which --help does not need

    logs = {
        run.job.contestant.title: read_trust_log(run.trust_log)
        for run in comparison.runs
        if run.job.seed == comparison.preset.seeds[0] and run.trust_log.exists()
    }
    return {title: lines for title, lines in logs.items() if lines}


COLUMNS = (
    *("kind", "contestant", "seed", "status", "reason", "trial", "parameters", "updates", "bytes", "train_seconds"),
    *("bytes_per_second", "cores", "peak_memory", "valid_bpb", "test_bpb"),
)


def to_csv(results: Results) -> str:
    """A row for each run, trials included; each way of evaluation has columns of its own."""
    rows: List[RunResult] = [*results.trials, *results.runs, *results.long]
    modes = sorted({evaluation.mode for row in rows for evaluation in row.evaluations})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [*COLUMNS, *(f"test_{mode}" for mode in modes), *(f"test_{mode}_bytes_per_second" for mode in modes)]
    )
    for row in rows:
        evaluations = [row.evaluated(mode) for mode in modes]
        cells = [getattr(row, column) for column in COLUMNS]
        cells += [item and item.bpb for item in evaluations]
        cells += [item and item.bytes_per_second for item in evaluations]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()


def write(out: Path, results: Results) -> None:
    """Write results.json and results.csv."""
    write_json(out / "results.json", asdict(results))
    write_text(out / "results.csv", to_csv(results))
