"""Bits per byte of a text: the lanes and chunks of fairseq-eval-lm, each id scored once."""

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional

import numpy as np
import torch
from torch import Tensor

from fairseq_sharnn.data.streams.lanes import EXHAUSTED, chunk_ends, evaluation_lanes
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.evaluation.scale import spelling_cost

if TYPE_CHECKING:
    from fairseq_sharnn.portable.model import Model

DEFAULT_LANES = 8  # that of fairseq-eval-lm with this package
_MOST_PROBABILITIES = 1 << 25  # numbers in one softmax: 128 MB


@dataclass(frozen=True)
class Chunk:
    """One chunk of all lanes, in their order.

    tokens [T, B]: what is read. targets [T, B]: what is predicted. scored [T, B] (bool): which of them count; the others
    warm the state up, or stand behind the end of a lane. places [T, B]: where the targets are in the text.
    """

    tokens: Tensor
    targets: Tensor
    scored: Tensor
    places: np.ndarray

    @property
    def count(self) -> int:
        """How many targets count."""
        return int(self.scored.sum())


def chunks(ids: np.ndarray, start: int, pad: int, lanes: int, length: int, context_window: int = 0) -> Iterator[Chunk]:
    """The ids [N] of a text, cut into `lanes` stretches, `length` columns at a time.

    Each id is a target once. Each lane but the first reads `context_window` ids before its stretch without scoring them.
    start: the id before the text. pad: stands behind the end of a lane.
    """
    plan = evaluation_lanes(len(ids), lanes, context_window)
    begin = 0
    for end in chunk_ends(plan.columns, length, None):
        places, scored = plan.targets(slice(0, lanes), begin, int(end))
        exists = places != EXHAUSTED
        before = np.where(places == 0, start, ids[np.maximum(places - 1, 0)])
        tokens = np.where(exists, before, pad)
        targets = np.where(scored, ids[np.maximum(places, 0)], pad)
        yield Chunk(*(torch.from_numpy(part.T.copy()) for part in (tokens, targets, scored)), places.T)
        begin = int(end)


@dataclass(frozen=True)
class Score:
    """What a text costs. nats: of the model. spelling_nats: to spell out what is <unk>, by a uniform byte model."""

    bytes: int
    tokens: int
    nats: float
    spelling_nats: float
    unknown: int

    @property
    def bits_per_byte(self) -> float:
        return (self.nats + self.spelling_nats) / self.bytes / math.log(2)

    @property
    def bits_per_token(self) -> float:
        """What fairseq-eval-lm prints as `Loss (base 2)`."""
        return self.nats / self.tokens / math.log(2)

    def __add__(self, other: "Score") -> "Score":
        mine, theirs = asdict(self), asdict(other)
        return Score(**{name: mine[name] + theirs[name] for name in mine})

    def figures(self) -> Dict[str, Any]:
        return {**asdict(self), "bits_per_byte": self.bits_per_byte, "bits_per_token": self.bits_per_token}


@torch.no_grad()
def score_text(
    model: "Model",
    text: bytes,
    name: str,
    lanes: Optional[int] = None,
    chunk: Optional[int] = None,
    context_window: int = 0,
    advance: Callable[[int], object] = lambda count: None,
) -> Score:
    """Score one text. name: for messages. advance: called with the number of ids that were scored.

    Raises UsageError if the text or the options do not fit.
    """
    encoded = model.codec.encode_file(text, name)
    ids, unit = encoded.ids, model.codec.unit
    if len(ids) == 0:
        raise UsageError(f"{name} is empty: there is nothing to score")
    lanes, chunk = _checked(model, name, len(ids), lanes, chunk, context_window)
    nats, state = 0.0, None
    for part in chunks(ids, model.codec.start, model.codec.pad, lanes, chunk, context_window):
        features, state = model.network(part.tokens.to(model.device), state)
        nats -= float(_log_probs(model, features, part).double().sum())
        advance(part.count)
    spelling = spelling_cost(encoded.unknown)
    assert unit == "token" or len(ids) == len(text)
    return Score(len(text), len(ids), nats, spelling, len(encoded.unknown))


def _log_probs(model: "Model", features: Tensor, part: Chunk) -> Tensor:
    """log p [N] of the targets that count, after features [T, B, D]."""
    scored = part.scored.to(features.device)
    rows, targets = features[scored], part.targets.to(features.device)[scored]
    size = max(1, _MOST_PROBABILITIES // model.codec.vocab)
    parts: List[Tensor] = [
        model.output.target_log_probs(some, of) for some, of in zip(rows.split(size), targets.split(size))
    ]
    return torch.cat(parts) if parts else rows.new_zeros(0)


def _checked(model: "Model", name: str, size: int, lanes: Optional[int], chunk: Optional[int], context_window: int):
    """Lanes and chunk, with their defaults. Raises UsageError naming the option that does not fit."""
    unit, context = model.codec.unit, model.config.sizes.context
    if lanes is None:
        lanes = min(DEFAULT_LANES, size)
    if chunk is None:
        chunk = max(1, min(model.config.chunk, context - 1))
    for option, value, least in (("--lanes", lanes, 1), ("--chunk", chunk, 1), ("--context-window", context_window, 0)):
        if value < least:
            raise UsageError(f"{option} must be at least {least}, but it is {value}")
    if size < lanes:
        raise UsageError(f"{name} has {size} {unit}s, fewer than the {lanes} lanes of --lanes: lower --lanes")
    if model.config.sizes.attention_layers and chunk >= context:
        raise UsageError(
            f"--chunk {chunk} leaves no memory of the model's context of {context}: choose at most {context - 1}"
        )
    return lanes, chunk
