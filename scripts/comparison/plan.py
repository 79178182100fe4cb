"""How long a comparison will take, in seconds of one worker's time, guessed before it starts."""

from typing import Dict, List, Sequence

from comparison.contestants import Contestant
from comparison.presets import Budget, Preset
from comparison.progress import duration

_START_UP = 7.0  # seconds that a fairseq command takes to import what it needs
_UPDATE = 0.1  # seconds, where the budget is counted in updates


class Plan:
    """Costs of the stages' steps. bytes: sizes of the splits."""

    generation_cost = _START_UP + 10
    probe_cost = _START_UP + 5

    def __init__(self, preset: Preset, contestants: Sequence[Contestant], bytes: Dict[str, int]):
        self.preset, self.contestants, self.bytes = preset, list(contestants), bytes

    @property
    def tuned(self) -> List[Contestant]:
        """Contestants with trials of their own."""
        return [contestant for contestant in self.contestants if contestant.tuned_as is None]

    @property
    def kinds(self) -> List[str]:
        """Families that take part, in order."""
        return list(dict.fromkeys(contestant.family for contestant in self.contestants))

    @property
    def evaluation_cost(self) -> float:
        """Of one pass over the test split."""
        return _START_UP + self._pass_seconds("test")

    def slice_cost(self, budget: Budget, slices: int) -> float:
        """Of one slice with its validation."""
        seconds = budget.seconds / slices if budget.seconds is not None else _UPDATE * budget.updates / slices
        return _START_UP + seconds + self._pass_seconds("valid")

    def _pass_seconds(self, split: str) -> float:
        """A rough guess: two operations a parameter and byte, 30 GFLOP/s on a CPU core, 60 TFLOP/s on a GPU."""
        speed = 30e9 if "--cpu" in self.preset.device else 60e12
        return 2 * self.bytes[split] * self.preset.parameters / speed

    def total(self) -> float:
        """Of everything."""
        preset = self.preset
        run = preset.slices * self.slice_cost(preset.budget, preset.slices)
        evaluations = {False: 3, True: 1}  # blocks, a context and a second try; streaming
        total = sum(
            len(preset.seeds) * (run + evaluations[contestant.streaming] * self.evaluation_cost) + self.generation_cost
            for contestant in self.contestants
        )
        trial = self.slice_cost(preset.trial, 1)
        total += sum(len(contestant.trials) * trial for contestant in self.tuned)
        if preset.budget.seconds is not None or preset.trial.seconds is not None:
            total += len(self.contestants) * self.probe_cost
        if preset.long is not None:
            slices = 2 * preset.slices
            total += len(self.kinds) * (slices * self.slice_cost(preset.long, slices) + 2 * self.evaluation_cost)
        return total

    def announcement(self) -> str:
        """What is about to happen, and how long it takes."""
        preset = self.preset
        trials = sum(len(contestant.trials) for contestant in self.tuned)
        long = "" if preset.long is None else f", {len(self.kinds)} runs of {preset.long}"
        return (
            f"comparison: {len(self.contestants)} models x {len(preset.seeds)} seeds x {preset.budget}, {trials} trials of "
            f"{preset.trial}{long}; {preset.jobs} side by side, one thread each: about "
            f"{duration(self.total() / preset.jobs)} from the beginning"
        )
