"""REPORT.md: what was compared, how, and what came out. All prose that both programs share is here and in verdict.py."""

from dataclasses import dataclass
from typing import List, Sequence

from experiments.comparison.equal_time import equal_time_headline, equal_time_section
from experiments.comparison.presets import CPU_TIME, HALVING, Preset
from experiments.comparison.report_plots import CAPTIONS
from experiments.comparison.results import Results
from experiments.comparison.seeds_rule import seeds_section
from experiments.comparison.tables import (
    MIB,
    context_table,
    long_table,
    quality_table,
    speed_table,
    trial_table,
    tuning_time_table,
)
from experiments.comparison.verdict import half_section, headline
from experiments.harness.markdown import image


@dataclass(frozen=True)
class ReportText:
    """What a program says in its report besides figures.

    update: what contestants besides SHA-RNN read in an update. evaluation, speed, tuning: paragraphs below those tables.
    notes: the list of what limits the comparison.
    """

    title: str
    update: str
    evaluation: str
    speed: str
    tuning: str
    notes: Sequence[str]


def render(results: Results, text: ReportText, plots: Sequence[str]) -> str:
    """The report as Markdown. plots: names of those that were drawn."""
    return "\n".join(
        [
            f"# {text.title}",
            "",
            *([] if results.complete else ["**Not complete yet: run the same command again to resume.**", ""]),
            *headline(results),
            *equal_time_headline(results),
            f"    {results.setting.command}",
            "",
            *_data(results),
            *_quality(results, text, plots),
            *seeds_section(results),
            *half_section(results.summaries),
            *equal_time_section(results, _plot("methods", plots)),
            *_long(results, plots),
            *_speed(results, text, plots),
            *_context(results, plots),
            *(["## Trust ratios", "", *_plot("trust-ratios", plots)] if results.trust else []),
            *["## Tuning", "", text.tuning, "", *_tuning_time(results), *trial_table(results)],
            *["## Fairness, and what is missing", "", *(f"- {note}" for note in text.notes), ""],
            *_machine(results),
            *_commands(results),
        ]
    )


def _data(results: Results) -> List[str]:
    sizes = ", ".join(f"{name} {split.bytes:,}" for name, split in results.setting.data.items())
    return [f"Data, bytes: {sizes} (sha256 of train {results.setting.data['train'].sha256[:16]}...).", ""]


def _quality(results: Results, text: ReportText, plots: Sequence[str]) -> List[str]:
    return [
        "## Quality at an equal budget",
        "",
        _budget(results.setting.preset, text.update),
        "",
        *quality_table(results.summaries),
        f"Bits per byte; mean ± standard deviation over seeds. {text.evaluation}",
        "",
        *_plot("valid-minutes", plots),
        *_plot("valid-bytes", plots),
    ]


def _budget(preset: Preset, update: str) -> str:
    if preset.budget.updates is not None:
        what = f"Each run trains for {preset.budget} of {preset.bytes_per_update:,} bytes: the same bytes for all"
    else:
        clock = "wall-clock time"
        if preset.charge == CPU_TIME:
            clock = "processor time, so that a training that waits for its core is not charged"
        what = f"Each run trains for {preset.budget} of {clock}; validation and start-up are not counted"
    side = f"{preset.jobs} run at a time, one thread each" if preset.jobs > 1 else "One runs at a time"
    lanes = f"{preset.lanes} lanes of {preset.chunk}"
    if preset.search == HALVING:
        lanes, update = "chunks", ", stateless models windows, both of the lengths that tuning chose"
    if preset.lanes_full is not None and preset.budget.updates is None:
        lanes += f" (with a head in every layer {preset.lanes_full}, as in the paper: fewer bytes in an update)"
    mixed = ""
    if "--amp" in preset.device:
        mixed = (
            " All train in mixed precision with --amp: with --fp16, slices of a run would not resume exactly. All are "
            "evaluated in float32 with TF32 allowed in every product."
        )
    return (
        f"{what}. A run has {preset.slices} slices, each with a validation at its end; the slices of all runs alternate. "
        f"{side}.{mixed} An update reads about {preset.bytes_per_update:,} bytes: SHA-RNN {lanes}{update}. The checkpoint "
        "with the best validation is tested."
    )


def _long(results: Results, plots: Sequence[str]) -> List[str]:
    if not results.long:
        return []
    return [
        "## One longer run of the best of each kind",
        "",
        *long_table(results),
        f"Learning rate, warm-up and schedule are those of the short trials ({results.setting.preset.trial}); they were not "
        "tuned for this length.",
        "",
        *_plot("long-valid-minutes", plots),
        *_plot("long-valid-bytes", plots),
    ]


def _speed(results: Results, text: ReportText, plots: Sequence[str]) -> List[str]:
    return [
        "## Speed and memory",
        "",
        *speed_table(results.summaries, results.setting.preset.prompts),
        f"Peak memory is that of the whole process; Python with fairseq holds {results.setting.idle_memory * MIB:,.0f} MiB "
        f"of it before it does anything. {text.speed}",
        "",
        *_plot("quality-eval-speed", plots),
        *_plot("quality-generation-speed", plots),
    ]


def _context(results: Results, plots: Sequence[str]) -> List[str]:
    if results.context is None:
        return []
    return [
        "## Context length, without retraining",
        "",
        f"{results.context.title}, trained with a context of {results.context.trained_with:,} bytes. It is evaluated in one "
        "lane, whose first bytes have less before them than the context could hold. Python with fairseq holds "
        f"{results.setting.idle_memory * MIB:,.0f} MiB of the memory.",
        "",
        *context_table(results),
        *_plot("context-length", plots),
    ]


def _tuning_time(results: Results) -> List[str]:
    return tuning_time_table(results) if results.setting.preset.search == HALVING else []


def _machine(results: Results) -> List[str]:
    """The machine of this report, and the commits and machines of all trainings, which may be others."""
    made_by = [made for run in (*results.trials, *results.runs, *results.long) for made in run.made_by]
    trained = ", ".join(dict.fromkeys(f"commit {made.commit} (machine {made.host})" for made in made_by)) or "–"
    return [
        "## Machine",
        "",
        *(f"- {line}" for line in results.setting.machine.lines()),
        f"- trained at: {trained}",
        "",
    ]


def _commands(results: Results) -> List[str]:
    """The exact commands of the first seed."""
    lines = [
        "## Commands",
        "",
        "The first slice and the evaluations of each contestant's first run. `results.json` has the commands of all runs.",
        "",
    ]
    seen = set()
    for run in [*results.runs, *results.long]:
        key = (run.kind, run.contestant)
        if key in seen or not run.commands:
            continue
        seen.add(key)
        lines += [f"    {command}" for command in [run.commands[0], *(item.command for item in run.evaluations)]]
        lines += [""]
    return lines


def _plot(name: str, plots: Sequence[str]) -> List[str]:
    return image(f"plots/{name}", CAPTIONS[name]) if name in plots else []
