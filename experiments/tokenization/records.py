"""What is measured on each run: records that are written as JSON and read back."""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from experiments.tokenization.plan import Plan, StudyRun

CANONICAL, LIKELIEST, EASIEST = "canonical", "likeliest", "easiest looking"  # names of segmentations


@dataclass(frozen=True)
class SplitCounts:
    """How much a split is: tokens, unknown ones among them, bytes, and words between white bytes."""

    tokens: int
    bytes: int
    words: int
    unknown: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a prepared data folder says of itself (tokenizer.json). note: what a reader of figures per word must know."""

    kind: str
    vocabulary: int
    splits: Dict[str, SplitCounts]
    settings: Dict[str, Any]
    model_sha256: Optional[str] = None
    note: Optional[str] = None


@dataclass(frozen=True)
class Training:
    """A run's training. window: tokens in a chunk; seconds: wall-clock; cpu_seconds: of all threads."""

    command: List[str]
    window: int
    updates: int
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Parameters:
    """Parameters that grow with the vocabulary (the embedding, which is also the output, and its bias), and the others."""

    embedding: int
    others: int


@dataclass(frozen=True)
class ScaleFigures:
    """The test split on one scale: the fields of fairseq_sharnn.evaluation.scale.Scale, and what follows from them."""

    model_nats: float
    spelling_nats: float
    tokens: int
    bytes: int
    words: int
    unknown: int
    nats: float
    nats_per_token: float
    bits_per_byte: float
    word_perplexity: float
    token_perplexity: float
    seconds: float = 0.0


@dataclass(frozen=True)
class PositionFigures:
    """Tokens at one position inside their word (from 1): how many, mean bits, and how many were predicted."""

    position: int
    tokens: int
    bits: float
    accuracy: float


@dataclass(frozen=True)
class WordFigures:
    """What the tokens inside words cost, and how many tokens and whole words were predicted (`words.py`).

    Shares are of the bits inside words (first, hidden), of the tokens inside words (later_tokens), and of all bits
    (between). None where a tokenization has no such tokens.
    """

    words: int
    bits_per_word: float
    tokens_per_word: float
    by_position: List[PositionFigures]
    first_share: float
    hidden_share: float
    later_tokens_share: float
    between_share: float
    first_accuracy: float
    later_accuracy: Optional[float]
    token_accuracy: float
    word_accuracy: float
    word_accuracy_of_several: Optional[float]
    seconds: float = 0.0


@dataclass(frozen=True)
class SegmentationFigures:
    """One text under one segmentation."""

    segmentation: str
    tokens: int
    nats: float
    bits_per_byte: float
    bits_per_word: float
    nats_per_token: float
    token_perplexity: float


@dataclass(frozen=True)
class SumFigures:
    """Bits per word, summed over the n best segmentations of each word, by n."""

    words: int
    segmentations_per_word: float
    words_with_several: int
    bits_per_word: Dict[int, float]


@dataclass(frozen=True)
class AttackFigures:
    """The same text under other segmentations. bytes: of the text in `resegmented`."""

    bytes: int
    resegmented: List[SegmentationFigures]
    summed: SumFigures
    searched: List[SegmentationFigures]
    seconds: float = 0.0


@dataclass(frozen=True)
class RunResult:
    """Everything that was measured on a run. attack: None for words."""

    training: Training
    parameters: Parameters
    scale: ScaleFigures
    words: WordFigures
    attack: Optional[AttackFigures] = None


@dataclass(frozen=True)
class StudyResult:
    """A finished study, as its report shows it.

    command: the one that made it. python, versions: the software. manifests: by tokenization.
    """

    plan: Plan
    command: str
    python: str
    versions: Dict[str, str]
    manifests: Dict[str, Manifest]
    runs: Dict[StudyRun, RunResult]
