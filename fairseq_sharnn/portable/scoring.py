"""Bits per byte of a text: the lanes and chunks of fairseq-eval-lm, each id scored once."""

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from fairseq_sharnn.data.streams.lanes import EXHAUSTED, chunk_ends, evaluation_lanes
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.evaluation.dynamic import STATIC, DynamicSettings, Learner, check_warmup
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


def chunks(
    ids: np.ndarray,
    start: int,
    pad: int,
    lanes: int,
    length: int,
    context_window: int = 0,
    fresh_lanes: bool = False,
) -> Iterator[Chunk]:
    """The ids [N] of a text, cut into `lanes` stretches, `length` columns at a time.

    Each id is a target once. Each lane but the first reads `context_window` ids before its stretch without scoring them.
    start: the id before the text. pad: stands behind the end of a lane. fresh_lanes: every lane begins with `start`, as
    the text does, and not with the id before its stretch. Then no lane reads an id before it is scored.
    """
    plan = evaluation_lanes(len(ids), lanes, context_window)
    begin = 0
    for end in chunk_ends(plan.columns, length, None):
        places, scored = plan.targets(slice(0, lanes), begin, int(end))
        exists = places != EXHAUSTED
        before = np.where(places == 0, start, ids[np.maximum(places - 1, 0)])
        tokens = np.where(exists, before, pad)
        if fresh_lanes and begin == 0:
            tokens[:, 0] = start
        targets = np.where(scored, ids[np.maximum(places, 0)], pad)
        columns = [torch.from_numpy(part.T.copy()) for part in (tokens, targets, scored)]
        yield Chunk(columns[0], columns[1], columns[2], places.T)
        begin = int(end)


@dataclass(frozen=True)
class Score:
    """What a text costs.

    nats: of the model. spelling_nats: to spell out what is <unk>, by a uniform byte model. seconds: of scoring (and
    learning). dynamic: how the weights learned from what was scored, if they did.
    """

    bytes: int
    tokens: int
    nats: float
    spelling_nats: float
    unknown: int
    seconds: float = 0.0
    dynamic: DynamicSettings = STATIC

    @property
    def bits_per_byte(self) -> float:
        return (self.nats + self.spelling_nats) / self.bytes / math.log(2)

    @property
    def bits_per_token(self) -> float:
        """What fairseq-eval-lm prints as `Loss (base 2)`."""
        return self.nats / self.tokens / math.log(2)

    def __add__(self, other: "Score") -> "Score":
        """The cost of both texts. Raises ValueError for a static and a dynamic one: their figures do not add up."""
        if self.dynamic != other.dynamic:
            raise ValueError(f"a {self.dynamic} and a {other.dynamic} score cannot be added")
        return Score(
            **{name: value + getattr(other, name) for name, value in self._counts().items()}, dynamic=self.dynamic
        )

    def _counts(self) -> Dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "dynamic"}

    def figures(self) -> Dict[str, Any]:
        """All figures, for JSON, and whether they are static or dynamic."""
        derived = {"bits_per_byte": self.bits_per_byte, "bits_per_token": self.bits_per_token}
        return {**self._counts(), **derived, **self.dynamic.figures()}


def score_text(
    model: "Model",
    text: bytes,
    name: str,
    lanes: Optional[int] = None,
    chunk: Optional[int] = None,
    context_window: int = 0,
    advance: Callable[[int], object] = lambda count: None,
    dynamic: DynamicSettings = STATIC,
) -> Score:
    """Score one text. name: for messages. advance: called with the number of ids that were scored.

    dynamic: how the weights learn from each chunk after it is scored; afterwards the model has its trained weights again.
    Raises UsageError if the text or the options do not fit.
    """
    encoded = model.codec.encode_file(text, name)
    ids, unit = encoded.ids, model.codec.unit
    if len(ids) == 0:
        raise UsageError(f"{name} is empty: there is nothing to score")
    lanes, chunk = _checked(model, name, len(ids), lanes, chunk, context_window)
    nats, began = 0.0, time.perf_counter()
    for part, log_probs in scored_chunks(model, ids, lanes, chunk, context_window, dynamic):
        nats -= float(log_probs.double().sum())
        advance(part.count)
    seconds = time.perf_counter() - began
    assert unit == "token" or len(ids) == len(text)
    return Score(len(text), len(ids), nats, spelling_cost(encoded.unknown), len(encoded.unknown), seconds, dynamic)


def scored_chunks(
    model: "Model",
    ids: np.ndarray,
    lanes: int,
    chunk: int,
    context_window: int = 0,
    dynamic: DynamicSettings = STATIC,
) -> Iterator[Tuple[Chunk, Tensor]]:
    """The chunks of a text's ids [N], each with log p [n] in float32 of its targets that count, without gradient.

    With dynamic evaluation the weights learn from a chunk when the next one is asked for. They are the trained ones again
    when the iterator ends or is closed. Every lane then begins as the text does, so that no id is read before it is
    scored. Raises UsageError for several lanes with a context window, which would read ids before.
    """
    if dynamic.learns:
        check_warmup(context_window, lanes, "--lanes")
    learner = Learner(model.module, dynamic) if dynamic.learns else None
    state = None
    with learner or nullcontext():
        for part in chunks(ids, model.codec.start, model.codec.pad, lanes, chunk, context_window, dynamic.learns):
            with torch.set_grad_enabled(dynamic.learns):
                features, state = model.network(part.tokens.to(model.device), state)
                log_probs = _log_probs(model, features, part)
            yield part, log_probs.detach()
            if learner is not None and part.count > 0:
                learner.learn(-log_probs.mean())


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
