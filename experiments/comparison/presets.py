"""How large, how long, how often: the four presets of a comparison."""

from dataclasses import asdict, dataclass
from typing import Dict, Optional, Tuple

from experiments.comparison.halving import candidates, lengths
from experiments.comparison.trials import TRIALS, Budget, Trial

# What a budget in minutes counts: processor time of a training, or the time that passes.
CPU_TIME, WALL_TIME = "cpu", "wall"

# How settings are chosen: each one of a few for as long, or successive halving of many.
GRID, HALVING = "grid", "halving"

# Which ways of evaluation are measured: those of the tests, or all that a model has.
MAIN_METHODS, ALL_METHODS = "main", "all"


@dataclass(frozen=True)
class Preset:
    """Settings of a comparison. An update reads lanes x chunk bytes, of every model.

    parameters: of every contestant. budget, trial: of a run and of a tuning trial. trials: their number for each
    contestant, from TRIALS[tuning]. slices: parts of a run, each followed by a validation. lanes, chunk, context:
    SHA-RNN's B, T and C in training. lanes_full: B with a head in every layer, if it differs. optimizer: SHA-RNN's, in the
    comparison with other models. window: bytes in a training window of a stateless model. layers: by shape of the model.
    eval_chunk, eval_lanes: SHA-RNN's T and B in evaluation. generated: bytes sampled in one timed round, a multiple of
    half a window, so that a Transformer slides equally often in every round. prompts: bytes read before. jobs: trainings
    at a time. timed_jobs: evaluations and generations at a time, 1 where their durations are reported. charge: what budgets
    in minutes count, CPU_TIME or WALL_TIME. search: how settings are chosen, GRID or HALVING; with HALVING `trial` is the
    budget of a trial of the last round. methods: which ways of evaluation are measured, MAIN_METHODS or ALL_METHODS.
    more_seeds: further seeds of some contestants, by name.
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
    charge: str = WALL_TIME
    search: str = GRID
    methods: str = MAIN_METHODS
    more_seeds: Tuple[Tuple[str, Tuple[int, ...]], ...] = ()
    context_lengths: Tuple[int, ...] = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)

    def trials_of(self, rates: str, family: str = "") -> Tuple[Trial, ...]:
        """The trials with the rates of that name: the same number for each family, or the first round of halving."""
        trials = TRIALS[self.tuning][rates]
        if self.search == GRID:
            return trials[: self.trials]
        update = self.bytes_per_update
        return candidates(trials, lengths(family or rates, self.window, self.chunk, self.context, update))

    def seeds_of(self, name: str) -> Tuple[int, ...]:
        """The seeds of a contestant: those of all, and its own."""
        own = [seed for known, seeds in self.more_seeds if known == name for seed in seeds]
        return tuple(dict.fromkeys([*self.seeds, *own]))

    @property
    def all_seeds(self) -> Tuple[int, ...]:
        """The seeds of any contestant."""
        return tuple(dict.fromkeys([*self.seeds, *(seed for _, seeds in self.more_seeds for seed in seeds)]))

    @property
    def timed(self) -> bool:
        """Whether any budget is in minutes."""
        return any(budget is not None and budget.seconds is not None for budget in (self.budget, self.trial, self.long))

    @property
    def bytes_per_update(self) -> int:
        return self.lanes * self.chunk

    def identity(self) -> Dict:
        """What must be equal for an output folder to be used again.

        Left out is what only adds runs, and the optimizer, which the identity of each contestant has. What later versions
        added is left out where it has the value that earlier versions had.
        """
        values = asdict(self)
        for name, value in (("charge", WALL_TIME), ("search", GRID)):
            if values[name] == value:
                del values[name]
        adding = ("seeds", "more_seeds", "long", "optimizer", "methods")
        return {name: value for name, value in values.items() if name not in adding}


SMALL_LAYERS = {"sha_rnn": 4, "deep": 6, "wide": 2, "gpt": 4, "lstm": 2}
PAPER_LAYERS = {"sha_rnn": 4, "deep": 12, "wide": 4, "gpt": 8, "lstm": 3}

# --fp16 would not resume exactly: fairseq saves no master weights but LAMB's. --amp keeps the weights in float32.
# One GPU, whatever else the machine has: a worker on each would read as many times the bytes in an update.
_HALF = ("--amp", "--distributed-world-size", "1")

SMOKE = Preset(
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
)

CPU = Preset(
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
    window=64,  # the best of 64, 128 and 256 for the 2-layer Transformer in 6 minutes
    layers=SMALL_LAYERS,
    tuning="small",
    dropout=0.0,
    device=("--cpu",),
    jobs=2,
    optimizer="adam",  # better than LAMB in runs of minutes: experiments/ablations/results
)

GPU = Preset(
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
)

PAPER = Preset(
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
)

PRESETS = {preset.name: preset for preset in (SMOKE, CPU, GPU, PAPER)}
