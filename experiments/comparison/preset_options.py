"""The options that change a preset: each is one entry of OPTIONS, for the parser, the checks and the preset."""

import argparse
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from experiments.comparison.contestant import OPTIMIZERS
from experiments.comparison.presets import (
    ALL_METHODS,
    CPU_TIME,
    GRID,
    HALVING,
    MAIN_METHODS,
    PRESETS,
    WALL_TIME,
    Preset,
)
from experiments.comparison.trials import TRIALS, Budget
from experiments.harness.processes import ProcessorClock
from fairseq_sharnn.errors import UsageError


@dataclass(frozen=True)
class PresetOption:
    """An option such as --minutes: its type and help for the parser, and `change`, which sets its value in a preset.

    name: also that of the parsed value. change: raises UsageError for a value that does not fit the preset. Values of
    numbers must be above 0.
    """

    name: str
    type: Callable[[str], Any]
    help: str
    change: Callable[[Preset, Any], Preset]
    choices: Optional[Sequence[str]] = None

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(self.flag, type=self.type, help=self.help, choices=self.choices)

    def applied(self, preset: Preset, value: Any) -> Preset:
        """The preset with this value. Raises UsageError that names the option."""
        if self.type in (int, float) and not value > 0:
            raise UsageError(f"{self.flag} must be above 0, but it is {value:g}")
        return self.change(preset, value)


def _minutes(preset: Preset, value: float) -> Preset:
    trial = Budget(minutes=value / 8) if preset.trial.minutes is None else preset.trial
    return replace(preset, budget=Budget(minutes=value), trial=trial)


def _updates(preset: Preset, value: int) -> Preset:
    trial = preset.trial if preset.trial.updates is not None else Budget(updates=max(1, value // 8))
    return replace(preset, budget=Budget(updates=value), trial=trial, slices=min(preset.slices, value))


def _budget(preset: Preset, value: str) -> Preset:
    if value == CPU_TIME and not charges_processor_time(preset):
        where = "on a GPU" if "--cpu" not in preset.device else "on this system, which does not tell it"
        raise UsageError(f"--budget cpu counts processor time, which says nothing {where}: give --budget wall")
    return replace(preset, charge=value)


def charges_processor_time(preset: Preset) -> bool:
    """Whether processor time can be counted, and says what a training could do: on a CPU."""
    return "--cpu" in preset.device and ProcessorClock.available


def with_charge(preset: Preset, wanted: Optional[str], known: Optional[Dict[str, Any]]) -> Preset:
    """The preset with what its minutes count. wanted: the value of --budget. known: the output folder's configuration.

    Without --budget an output folder keeps its own, which is the wall-clock for folders of earlier versions. A new one
    counts processor time where that can be counted.
    """
    if wanted is not None or not preset.timed:
        return preset
    if known is not None:
        return replace(preset, charge=known.get("preset", {}).get("charge", WALL_TIME))
    return replace(preset, charge=CPU_TIME if charges_processor_time(preset) else WALL_TIME)


def _trials(preset: Preset, value: int) -> Preset:
    most = len(TRIALS[preset.tuning]["sha_rnn"])
    if value > most:
        raise UsageError(f"--trials {value} is more than the {most} there are for each contestant")
    return replace(preset, trials=value)


def _window(preset: Preset, value: int) -> Preset:
    _check_divides("--window", value, preset)
    return replace(preset, window=value, generated=max(preset.generated, value // 2))


def _chunk(preset: Preset, value: int) -> Preset:
    _check_divides("--chunk", value, preset)
    if value >= preset.context:
        raise UsageError(f"--chunk {value} must be below the context length, {preset.context}")
    full = preset.lanes_full and max(1, preset.lanes_full * preset.chunk // value)
    return replace(preset, chunk=value, lanes=preset.bytes_per_update // value, lanes_full=full)


def _check_divides(flag: str, value: int, preset: Preset) -> None:
    if preset.bytes_per_update % value:
        raise UsageError(f"{flag} {value} does not divide the {preset.bytes_per_update:,} bytes of an update")


def parse_seeds(text: str) -> Tuple[int, ...]:
    """`1,2,3` as numbers, each once. Raises UsageError."""
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise UsageError(f"--seeds takes whole numbers such as 1,2,3, not '{text}'") from None
    if min(seeds) < 1:
        raise UsageError(f"--seeds must be at least 1, but one is {min(seeds)}")
    return seeds


def parse_more_seeds(text: str) -> Tuple[Tuple[str, Tuple[int, ...]], ...]:
    """`sha_rnn,lstm_lm=2,3` as seeds by name. Raises UsageError."""
    names, found, seeds = text.partition("=")
    if not found or not all(name.strip() for name in names.split(",")):
        raise UsageError(f"--more-seeds takes names and seeds such as sha_rnn,lstm_lm=2,3, not '{text}'")
    try:
        numbers = parse_seeds(seeds)
    except UsageError as error:
        raise UsageError(str(error).replace("--seeds", "--more-seeds", 1)) from None
    return tuple((name.strip(), numbers) for name in names.split(","))


OPTIONS = (
    PresetOption("minutes", float, "budget of each run: minutes of training (see --budget)", _minutes),
    PresetOption(
        "budget",
        str,
        "what minutes count: cpu, processor time, so that a training that waits for its core is not charged (default on a "
        "CPU); or wall, the time that passes",
        _budget,
        choices=(CPU_TIME, WALL_TIME),
    ),
    PresetOption("updates", int, "budget of each run: updates, of the same bytes for all", _updates),
    PresetOption(
        "trial_minutes",
        float,
        "budget of each tuning trial",
        lambda preset, value: replace(preset, trial=Budget(minutes=value)),
    ),
    PresetOption("trials", int, "number of tuning trials of each contestant", _trials),
    PresetOption(
        "seeds",
        str,
        "seeds, such as 1,2,3; more can be added later",
        lambda preset, value: replace(preset, seeds=parse_seeds(value)),
    ),
    PresetOption(
        "more_seeds",
        str,
        "further seeds of some contestants, such as sha_rnn,lstm_lm=2,3",
        lambda preset, value: replace(preset, more_seeds=parse_more_seeds(value)),
    ),
    PresetOption(
        "long_minutes",
        float,
        "at the end, one run of so many minutes for the best of each kind",
        lambda preset, value: replace(preset, long=Budget(minutes=value)),
    ),
    PresetOption(
        "parameters",
        int,
        "number of parameters of every contestant",
        lambda preset, value: replace(preset, parameters=value),
    ),
    PresetOption("chunk", int, "bytes in a chunk of SHA-RNN's training; the bytes of an update stay the same", _chunk),
    PresetOption(
        *("jobs", int, "trainings at a time, one thread each (default: the preset's)"),
        lambda preset, value: replace(preset, jobs=value),
    ),
)

# Options of a comparison with other models only.
MODEL_OPTIONS = (
    PresetOption(
        "methods",
        str,
        "ways of evaluation: main, those of the tests (default); or all, for the comparison at equal time of evaluation, "
        "which can be added later",
        lambda preset, value: replace(preset, methods=value),
        choices=(ALL_METHODS, MAIN_METHODS),
    ),
    PresetOption(
        "tuning",
        str,
        "how settings are chosen: grid, the preset's few trials (default); or halving, successive halving over lengths of "
        "windows and chunks, rates and warm-ups, in which --trial-minutes is the budget of a trial of the last round",
        lambda preset, value: replace(preset, search=value),
        choices=(GRID, HALVING),
    ),
    PresetOption("window", int, "bytes in a window of stateless models; the bytes of an update stay the same", _window),
    PresetOption(
        "optimizer",
        str,
        "SHA-RNN's optimizer (default: the preset's)",
        lambda preset, value: replace(preset, optimizer=value),
        choices=sorted(OPTIMIZERS),
    ),
)


def choose(name: str, options: Sequence[PresetOption] = (*OPTIONS, *MODEL_OPTIONS), **values: Any) -> Preset:
    """The preset of that name, changed by those values that are not None. Raises UsageError that names the option."""
    if name not in PRESETS:
        raise UsageError(f"--preset {name} is not one of {', '.join(PRESETS)}")
    if values.get("minutes") is not None and values.get("updates") is not None:
        raise UsageError("--minutes and --updates exclude each other: give one budget")
    if values.get("trials") is not None and values.get("tuning") == HALVING:
        raise UsageError("--trials counts the trials of --tuning grid: leave it out with --tuning halving")
    preset = PRESETS[name]
    for option in options:
        if values.get(option.name) is not None:
            preset = option.applied(preset, values[option.name])
    return preset
