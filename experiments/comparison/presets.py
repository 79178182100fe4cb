"""How large, how long, how often: the four presets of a comparison, and what tuning tries in each."""

from dataclasses import asdict, dataclass, replace
from typing import Dict, Optional, Tuple

from fairseq_sharnn.errors import UsageError


@dataclass(frozen=True)
class Budget:
    """What one training run may spend: minutes of training wall-clock (validation and start-up apart), or updates."""

    minutes: Optional[float] = None
    updates: Optional[int] = None

    @property
    def seconds(self) -> Optional[float]:
        return None if self.minutes is None else self.minutes * 60

    def __str__(self) -> str:
        number, unit = (self.minutes, "minute") if self.updates is None else (self.updates, "update")
        return f"{number:,g} {unit}" + ("" if number == 1 else "s")


@dataclass(frozen=True)
class Trial:
    """One setting. schedule: constant; linear, which falls to a twentieth; or halved, the paper's two passes, the last 5 of
    37 parts of the run at half the rate. warmup: share of the run's updates, so that a short trial is the image of a longer
    run."""

    lr: float
    schedule: str
    warmup: float

    def __str__(self) -> str:
        return f"lr {self.lr:g}, {self.schedule}, warm-up {self.warmup:.0%} of the updates"

    @property
    def end(self) -> float:
        """The rate that the schedule ends with."""
        return self.lr / {"constant": 1, "halved": 2, "linear": 20}[self.schedule]


def grid(
    rates: Tuple[float, float, float], warmup: float, other_warmup: float, other_schedule: str = "constant"
) -> Tuple[Trial, ...]:
    """Three learning rates (the middle one first), then, at the middle one, another warm-up and another schedule."""
    low, middle, high = rates
    return (
        *(Trial(lr, "linear", warmup) for lr in (middle, low, high)),
        Trial(middle, "linear", other_warmup),
        Trial(middle, other_schedule, warmup),
    )


def rates_alone(rates: Tuple[float, ...], warmup: float) -> Tuple[Trial, ...]:
    """As many trials as `grid` has, all over the learning rate."""
    return tuple(Trial(lr, "linear", warmup) for lr in rates)


# In order of trust: a preset with fewer trials takes the first ones. The keys are what `Preset.tuning` names; `lamb` is
# LAMB without the floor, whose steps are smaller; `adam` is SHA-RNN with Adam.
TRIALS: Dict[str, Dict[str, Tuple[Trial, ...]]] = {
    "small": {
        "sha_rnn": grid((2e-3, 4e-3, 8e-3), 0.5, 0.3),
        "lamb": rates_alone((8e-3, 4e-3, 16e-3, 32e-3, 2e-3), 0.5),
        "adam": grid((1e-3, 2e-3, 4e-3), 0.3, 0.1),
        "transformer": grid((1e-3, 2e-3, 4e-3), 0.1, 0.3),
        "lstm": grid((1e-3, 2e-3, 4e-3), 0.1, 0.3),
    },
    "large": {
        "sha_rnn": grid((1e-3, 2e-3, 4e-3), 0.05, 0.2, "halved"),
        "lamb": rates_alone((4e-3, 2e-3, 8e-3, 16e-3, 1e-3), 0.05),
        "adam": grid((2.5e-4, 5e-4, 1e-3), 0.05, 0.2, "halved"),
        "transformer": grid((2.5e-4, 5e-4, 1e-3), 0.05, 0.2, "halved"),
        "lstm": grid((5e-4, 1e-3, 2e-3), 0.05, 0.2, "halved"),
    },
}


@dataclass(frozen=True)
class Preset:
    """Settings of a comparison.

    parameters: the count all contestants are brought to. budget, trial: of a run and of a tuning trial. trials: their
    number, for each contestant alike, out of TRIALS under `tuning`. slices: parts a run is cut into, one validation after
    each. lanes, chunk, context: SHA-RNN's B, T and C in training; lanes_full: B with a head in every layer, if other.
    optimizer: SHA-RNN's where it is compared with other models. window: bytes in a stateless model's training window. An
    update reads lanes · chunk bytes. eval_chunk: SHA-RNN's T in evaluation. generated: bytes sampled to time generation,
    in each round; half a window, or a multiple of it, so that a Transformer slides as often in each. layers: by shape.
    jobs: trainings side by side; timed_jobs: evaluations and generations, 1 wherever their times mean something.
    """

    name: str
    parameters: int
    budget: Budget
    trial: Budget
    trials: int
    slices: int
    seeds: Tuple[int, ...]
    lanes: int
    chunk: int
    context: int
    window: int
    layers: Dict[str, int]
    tuning: str
    dropout: float
    device: Tuple[str, ...]
    jobs: int
    timed_jobs: int = 1
    lanes_full: Optional[int] = None
    eval_chunk: int = 128
    eval_lanes: int = 8
    generated: int = 256
    prompts: Tuple[int, ...] = (1000, 4000)
    log_interval: int = 20
    long: Optional[Budget] = None
    optimizer: str = "lamb_min_trust"
    context_lengths: Tuple[int, ...] = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)

    def trials_of(self, family: str) -> Tuple[Trial, ...]:
        """The trials of a family, as many for each."""
        return TRIALS[self.tuning][family][: self.trials]

    @property
    def timed(self) -> bool:
        """Whether anything is budgeted in minutes."""
        return any(budget is not None and budget.seconds is not None for budget in (self.budget, self.trial, self.long))

    def identity(self) -> Dict:
        """What must be equal for an output folder to be continued: all but what only adds runs to it, and the optimizer,
        which is in the identity of each contestant."""
        return {name: value for name, value in asdict(self).items() if name not in ("seeds", "long", "optimizer")}


SMALL_LAYERS = {"sha_rnn": 4, "deep": 6, "wide": 2, "gpt": 4, "lstm": 2}
PAPER_LAYERS = {"sha_rnn": 4, "deep": 12, "wide": 4, "gpt": 8, "lstm": 3}

# --fp16 would not resume exactly: fairseq saves no master weights but LAMB's. --amp keeps the weights in float32.
# One GPU, whatever else the machine has: a worker on each would read as many times the bytes in an update.
_HALF = ("--amp", "--distributed-world-size", "1")

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="smoke",
            parameters=60_000,
            budget=Budget(updates=8),
            trial=Budget(updates=2),
            trials=1,
            slices=2,
            seeds=(1,),
            lanes=4,
            chunk=32,
            context=128,
            window=64,
            layers={"sha_rnn": 2, "deep": 3, "wide": 1, "gpt": 2, "lstm": 1},
            tuning="small",
            dropout=0.0,
            device=("--cpu",),
            jobs=2,
            timed_jobs=2,
            eval_chunk=64,
            generated=128,
            prompts=(1000, 4000),
            log_interval=1,
            context_lengths=(256, 512),
        ),
        Preset(
            name="cpu",
            parameters=880_000,
            budget=Budget(minutes=6),
            trial=Budget(minutes=1),
            trials=5,
            slices=6,
            seeds=(1, 2, 3),
            lanes=16,
            chunk=64,
            context=1024,
            window=64,  # of 256, 128 and 64 the best for the 2-layer Transformer in 6 minutes
            layers=SMALL_LAYERS,
            tuning="small",
            dropout=0.0,
            device=("--cpu",),
            jobs=2,
            optimizer="adam",  # ahead of LAMB in runs of minutes: experiments/ablations/results
        ),
        Preset(
            name="gpu",
            parameters=53_800_000,
            budget=Budget(minutes=0.5),
            trial=Budget(minutes=0.1),
            trials=3,
            slices=2,
            seeds=(1,),
            lanes=16,
            chunk=1024,
            context=5000,
            window=1024,
            layers=PAPER_LAYERS,
            tuning="large",
            dropout=0.1,
            device=_HALF,
            jobs=1,
            eval_chunk=1024,
            eval_lanes=64,  # fewer leave a GPU idle, most of all in an LSTM's steps
            generated=512,
        ),
        Preset(
            name="paper",
            parameters=53_800_000,
            budget=Budget(minutes=16 * 60),
            trial=Budget(minutes=30),
            trials=5,
            slices=32,
            seeds=(1, 2, 3),
            lanes=16,
            chunk=1024,
            context=5000,
            window=1024,
            layers=PAPER_LAYERS,
            tuning="large",
            dropout=0.1,
            device=_HALF,
            jobs=1,
            lanes_full=8,
            eval_chunk=1024,
            generated=512,
            log_interval=100,
        ),
    )
}


def choose(
    name: str,
    minutes: Optional[float] = None,
    updates: Optional[int] = None,
    trial_minutes: Optional[float] = None,
    trials: Optional[int] = None,
    seeds: Optional[str] = None,
    parameters: Optional[int] = None,
    jobs: Optional[int] = None,
    long_minutes: Optional[float] = None,
    window: Optional[int] = None,
    chunk: Optional[int] = None,
    optimizer: Optional[str] = None,
) -> Preset:
    """The preset of that name, with what the command line sets otherwise. Raises UsageError naming the option."""
    if name not in PRESETS:
        raise UsageError(f"--preset {name} is not one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    if minutes is not None and updates is not None:
        raise UsageError("--minutes and --updates exclude each other: give one budget")
    for option, value in (
        ("--minutes", minutes),
        ("--updates", updates),
        ("--trial-minutes", trial_minutes),
        ("--trials", trials),
        ("--long-minutes", long_minutes),
        ("--jobs", jobs),
        ("--parameters", parameters),
        ("--window", window),
        ("--chunk", chunk),
    ):
        if value is not None and not value > 0:
            raise UsageError(f"{option} must be above 0, but it is {value:g}")
    if minutes is not None:
        trial = Budget(minutes=minutes / 8) if preset.trial.minutes is None else preset.trial
        preset = replace(preset, budget=Budget(minutes=minutes), trial=trial)
    if updates is not None:
        trial = preset.trial if preset.trial.updates is not None else Budget(updates=max(1, updates // 8))
        preset = replace(preset, budget=Budget(updates=updates), trial=trial, slices=min(preset.slices, updates))
    if trial_minutes is not None:
        preset = replace(preset, trial=Budget(minutes=trial_minutes))
    if trials is not None:
        most = len(TRIALS[preset.tuning]["sha_rnn"])
        if trials > most:
            raise UsageError(f"--trials {trials} is more than the {most} there are for each contestant")
        preset = replace(preset, trials=trials)
    if seeds is not None:
        preset = replace(preset, seeds=parse_seeds(seeds))
    if parameters is not None:
        preset = replace(preset, parameters=parameters)
    if jobs is not None:
        preset = replace(preset, jobs=jobs)
    per_update = preset.lanes * preset.chunk
    for option, value in (("--window", window), ("--chunk", chunk)):
        if value is not None and per_update % value:
            raise UsageError(f"{option} {value} does not divide the {per_update:,} bytes of an update")
    if window is not None:
        preset = replace(preset, window=window, generated=max(preset.generated, window // 2))
    if chunk is not None:
        if chunk >= preset.context:
            raise UsageError(f"--chunk {chunk} must be below the context length, {preset.context}")
        full = preset.lanes_full and max(1, preset.lanes_full * preset.chunk // chunk)
        preset = replace(preset, chunk=chunk, lanes=per_update // chunk, lanes_full=full)
    if optimizer is not None:
        preset = replace(preset, optimizer=optimizer)
    if long_minutes is not None:
        preset = replace(preset, long=Budget(minutes=long_minutes))
    return preset


def parse_seeds(text: str) -> Tuple[int, ...]:
    """`1,2,3` as numbers, each once. Raises UsageError."""
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise UsageError(f"--seeds takes whole numbers such as 1,2,3, not '{text}'") from None
    if min(seeds) < 1:
        raise UsageError(f"--seeds must be at least 1, but one is {min(seeds)}")
    return seeds
