"""The tables of a report."""

from typing import List, Optional, Sequence

from experiments.comparison.results import Results
from experiments.comparison.run_result import RunResult, TrialResult
from experiments.comparison.summary import Summary
from experiments.harness.markdown import NOTHING, number, table, without_empty_columns

MIB = 2**-20  # MiB in a byte


def quality_table(summaries: Sequence[Summary]) -> List[str]:
    """Bits per byte, and what was read for them."""
    header = [
        "",
        "parameters",
        "valid",
        "test",
        "test, windows with context",
        "million bytes read",
        "updates",
        "minutes",
        "minutes on the wall",
    ]
    rows = []
    for item in summaries:
        window = NOTHING if item.window.bpb is None else f"{number(item.window.bpb, 4)} (w {item.context})"
        rows.append(
            [
                item.title + (f" **failed: {'; '.join(item.failed)}**" if item.failed else ""),
                NOTHING if item.parameters is None else f"{item.parameters:,}",
                number(item.valid_bpb, 4),
                number(item.main.bpb, 4),
                window,
                number(item.bytes, 2, 1e-6),
                number(item.updates),
                number(item.train_minutes, 2),
                number(item.wall_minutes, 2),
            ]
        )
    return table(*without_empty_columns(header, rows))


def speed_table(summaries: Sequence[Summary], prompts: Sequence[int]) -> List[str]:
    """Bytes a second and memory, in training, evaluation and generation."""
    header = [
        "",
        "training, bytes/s",
        "CPU/wall",
        "peak memory in training, MiB",
        "of the GPU (logged updates), MiB",
        "evaluation, bytes/s",
        "evaluation, s",
        "with windows, s",
        *(f"generation after {prompt:,} bytes, bytes/s" for prompt in prompts),
    ]
    rows = [
        [
            item.title,
            number(item.train_bytes_per_second),
            number(item.cores, 2),
            number(item.peak_memory, 0, MIB),
            number(item.gpu_peak_memory, 0, MIB),
            number(item.main.bytes_per_second),
            number(item.main.seconds, 1),
            number(item.window.seconds, 1),
            *(_speed(item.generation.get(str(prompt))) for prompt in prompts),
        ]
        for item in summaries
    ]
    return table(*without_empty_columns(header, rows))


def _speed(value: Optional[float]) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def trial_table(results: Results) -> List[str]:
    """All tuning trials that ended."""
    several = len({trial.budget for trial in results.trials}) > 1
    rows = [
        [
            results.title_of(trial.contestant),
            trial.options,
            trial.budget if several else NOTHING,
            _outcome(trial),
            f"{trial.updates:,}",
            _choice(trial),
        ]
        for trial in results.trials
        if trial.ended
    ]
    return table(*without_empty_columns(["", "trial", "budget", "valid, bits per byte", "updates", ""], rows))


def tuning_time_table(results: Results) -> List[str]:
    """What tuning each contestant took, by the clock of its budget."""
    rows = []
    for name in dict.fromkeys(trial.contestant for trial in results.trials):
        its = [trial for trial in results.trials if trial.contestant == name]
        minutes = sum(trial.train_seconds for trial in its) / 60
        rows.append([results.title_of(name), len(its), f"{minutes:,.1f}"])
    return table(["", "trials", "minutes of training"], rows)


def _outcome(trial: TrialResult) -> str:
    return f"failed: {trial.reason}" if trial.failed else f"{trial.valid_bpb:.4f}"


def _choice(trial: TrialResult) -> str:
    if not trial.chosen:
        return ""
    ends = [word for word, at_end in (("rates", trial.edge), ("lengths", trial.length_edge)) if at_end]
    return (
        f"**chosen** (an end of its range of {' and of '.join(ends)}: another may be better)" if ends else "**chosen**"
    )


def long_table(results: Results) -> List[str]:
    """The longer runs."""
    header = ["", "budget", "valid", "test", "million bytes read", "minutes"]
    rows = [
        [
            results.title_of(run.contestant),
            run.budget,
            NOTHING if run.valid_bpb is None else f"{run.valid_bpb:.4f}",
            _tests(run),
            f"{run.bytes / 1e6:.2f}",
            f"{run.train_seconds / 60:.1f}",
        ]
        for run in results.long
    ]
    return table(*without_empty_columns(header, rows))


def _tests(run: RunResult) -> str:
    if run.failed:
        return f"failed: {run.reason}"
    return ", ".join(f"{item.mode} {item.bpb:.4f}" for item in run.evaluations if not item.reason) or NOTHING


def context_table(results: Results) -> List[str]:
    """One trained model under several context lengths."""
    header = ["context length", "test, bits per byte", "seconds", "bytes/s", "peak memory, MiB", "chunk"]
    rows = []
    for item in results.context.lengths:
        if item.reason is not None:
            rows.append([f"{item.context:,}", f"failed: {item.reason}", "", "", "", ""])
            continue
        rows.append(
            [
                f"{item.context:,}",
                f"{item.bpb:.4f}",
                f"{item.seconds:,.1f}",
                f"{item.bytes_per_second:,.0f}",
                f"{item.peak_memory * MIB:,.0f}",
                item.chunk,
            ]
        )
    return table(*without_empty_columns(header, rows))
