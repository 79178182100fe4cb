"""What is measured of each training and evaluation, as typed records in the output folder."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional

from experiments.comparison.learning_rate import LearningRate
from experiments.harness.machine import MadeBy

DYNAMIC = ", dynamic"  # how the title of a dynamic method ends


@dataclass(frozen=True)
class Point:
    """Where a run was at the end of a slice: minutes of its budget, updates, bytes read, bits per byte."""

    minutes: float
    updates: int
    bytes: float
    valid_bpb: float
    train_bpb: Optional[float] = None


@dataclass
class RunRecord:
    """run.json: one training, so far.

    kind: pace, trial, run or long. status: running, finished or failed, with the reason. slices: that are trained.
    warm_rate: updates a second without cold caches. lost_seconds: what fairseq's clock counts besides updates when it
    starts. schedule: the learning rate of the last slice. charge: whose time train_seconds, points, rates and lost_seconds
    have, "cpu" or "wall". train_wall_seconds: the time of training on the wall. killed: slices in which the training was
    killed. Memory in bytes, times in seconds.
    """

    kind: str
    contestant: str
    seed: int
    trial: str
    budget: str
    parameters: int
    status: str = "running"
    reason: Optional[str] = None
    slices: int = 0
    points: List[Point] = field(default_factory=list)
    train_seconds: float = 0.0
    valid_seconds: float = 0.0
    updates: int = 0
    bytes: float = 0.0
    warm_rate: Optional[float] = None
    peak_memory: int = 0
    gpu_peak_memory: Optional[int] = None
    killed: List[int] = field(default_factory=list)
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    charge: str = "wall"
    train_wall_seconds: float = 0.0
    lost_seconds: float = 0.0
    schedule: Optional[LearningRate] = None
    commands: List[str] = field(default_factory=list)
    made_by: List[MadeBy] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train, because it is finished or has failed."""
        return self.status != "running"

    @property
    def failed(self) -> bool:
        return self.status == "failed"

    @property
    def best_valid_bpb(self) -> Optional[float]:
        """The best validation, None before the first."""
        return min((point.valid_bpb for point in self.points), default=None)


@dataclass(frozen=True)
class Evaluation:
    """evaluation-MODE.json: the test split under one way of evaluation, or the reason why there is no result.

    bpb: bits per byte. tokens: bytes that were scored. seconds: of scoring. peak_memory: of the process, in bytes.
    """

    mode: str
    command: str = ""
    reason: Optional[str] = None
    bpb: Optional[float] = None
    tokens: Optional[int] = None
    seconds: Optional[float] = None
    bytes_per_second: Optional[float] = None
    peak_memory: Optional[int] = None


@dataclass(frozen=True)
class MethodResult:
    """A contestant under one way of evaluation, on valid and on test, means over `seeds` runs.

    method: its name without the rate of dynamic evaluation. title: in words. seconds: of scoring.
    """

    contestant: str
    method: str
    title: str
    valid_bpb: float
    valid_seconds: float
    test_bpb: float
    test_seconds: float
    seeds: int


@dataclass(frozen=True)
class Generation:
    """generation.json: bytes written a second, by the length of the prompt; or the reason why there is no result."""

    command: str = ""
    reason: Optional[str] = None
    peak_memory: Optional[int] = None
    bytes_per_second: Dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """A context that was tried, and the mean seconds that its evaluation took."""

    context: int
    seconds: float


@dataclass(frozen=True)
class FittedContext:
    """windows/NAME.json: the largest context in a stateless model's windows whose evaluation takes no longer than allowed.

    context: bytes; 0 if none fits. window: bytes of a window. reference: the contestant whose time is allowed. reason: why
    an attempt failed.
    """

    context: int = 0
    window: Optional[int] = None
    reference: Optional[str] = None
    allowed_seconds: Optional[float] = None
    measured: List[Attempt] = field(default_factory=list)
    reason: Optional[str] = None


@dataclass(frozen=True)
class ContextLength(Evaluation):
    """The evaluation of a trained model with another context length, in chunks of `chunk` bytes."""

    context: int = 0
    chunk: int = 0


@dataclass(frozen=True)
class ContextLengths:
    """context.json: the evaluations of one run under several context lengths. trained_with: its own."""

    title: str
    run: str
    trained_with: int
    lengths: List[ContextLength]
