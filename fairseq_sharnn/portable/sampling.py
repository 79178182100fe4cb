"""Drawing text: several prompts of different lengths in one batch, each with the text that it would get by itself.

A lane's numbers must not depend on the other lanes, to the last bit: a draw may turn on it. Three things see to that.
Each prompt is read by itself. Each lane keeps a memory of its own, so lanes that have read different amounts need no
padding. And the step's kernel computes each lane by itself. Where there is no kernel, the matrix products that lanes share
have a fixed number of rows: a library may add up the same row in another order if there are more rows, but not if it
stands in another place among as many.
"""

import math
from dataclasses import dataclass
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from fairseq_sharnn.data.codecs import Codec
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.modules.memory import LaneMemories
from fairseq_sharnn.modules.sha_rnn import SHARNN, StreamNetwork
from fairseq_sharnn.modules.stream_state import LayerState, StreamState
from fairseq_sharnn.ops.step import MOST_LANES
from fairseq_sharnn.portable.arguments import as_real, as_whole, each_seed
from fairseq_sharnn.portable.replayed import give_back, take_step

# Lanes of one batch without the kernel for single steps. On CPU a batch that is not full costs as much as a full one.
_LANES_ON_CPU, _LANES_ON_CUDA = 4, 16
# At lower temperatures logits overflow, and what differs in them is not drawn any more.
_LOWEST_TEMPERATURE = 1e-30


@dataclass(frozen=True)
class Settings:
    """How to draw: so many tokens, at a temperature (0: the likeliest), from the top_k likeliest (0: all), and from the
    fewest whose probability reaches top_p. Raises TypeError for what is no number, UsageError if one is out of range.
    """

    length: int = 256
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        for name, make in (("length", as_whole), ("temperature", as_real), ("top_k", as_whole), ("top_p", as_real)):
            object.__setattr__(self, name, make(getattr(self, name), name))
        if not (self.length >= 0 and 0 <= self.temperature < math.inf and self.top_k >= 0 and 0 < self.top_p <= 1):
            raise UsageError("sample needs length >= 0, a finite temperature >= 0, top_k >= 0 and 0 < top_p <= 1")


class Predictor(NamedTuple):
    """A model as sampling sees it. logits: from features [N, D] to logits, or log probabilities, [N, V]."""

    network: StreamNetwork
    logits: Callable[[Tensor], Tensor]


class Piece(NamedTuple):
    """Some more text of prompt `number`; `last`: its sample ends with it."""

    number: int
    text: bytes
    last: bool


def draw_each(logits: Tensor, settings: Settings, generators: Sequence[Optional[torch.Generator]]) -> Tensor:
    """Draw one index in each lane: from logits [B, V] to [B]; -1 where logits are NaN.

    generators: one a lane; None is torch's default one.
    """
    if settings.temperature < _LOWEST_TEMPERATURE:
        return _place_of_largest(logits)
    if settings.temperature != 1.0:
        logits = logits / settings.temperature
    if 0 < settings.top_k < logits.size(-1):
        logits = logits.masked_fill(logits < logits.topk(settings.top_k).values[:, -1:], float("-inf"))
    if settings.top_p < 1.0:
        ordered, order = logits.softmax(-1).sort(descending=True)
        # drop what comes after the mass p is reached: never the likeliest
        dropped = (ordered.cumsum(-1) - ordered) >= settings.top_p
        logits = logits.masked_fill(torch.zeros_like(dropped).scatter_(1, order, dropped), float("-inf"))
    probs = logits.softmax(-1)
    times = torch.empty_like(probs)
    for lane, generator in zip(times.unbind(0) if len(times) > 1 else (times,), generators):
        lane.exponential_(1.0, generator=generator)
    # Of exponential times with rates p the first comes from i with probability p_i. torch.multinomial draws the same
    # numbers so, but it first checks p, which takes longer than the draw, and makes the host wait for a GPU.
    return _place_of_largest(probs.div_(times))


def _place_of_largest(values: Tensor) -> Tensor:
    """From [B, V] to [B]; -1 where a value is NaN, which counts as the largest."""
    largest, place = values.max(-1)
    return place.masked_fill(largest.isnan(), -1)


class Lanes:
    """Streams that have read different amounts, of one network, a token at a time together."""

    def __init__(self, predictor: Predictor, prompts: Sequence[Tensor]):
        """Read each of the prompts [T] (ids on the network's device), which may differ in length."""
        network, logits = predictor
        self._network, self._logits = network, logits
        self._apart = network.steps_apart()
        self._projects_apart = self._apart and isinstance(network, SHARNN)  # outputs in bands have torch's products
        self._count = len(prompts)
        read = [self._read(tokens) for tokens in prompts]
        self._rows = self._count if self._apart else most_lanes(network)
        self._features = self._filled(torch.cat([features for features, _ in read]))
        self._state = self._joined([state for _, state in read])
        self._step = take_step(network, self._rows)
        if self._step is not None:
            self._step.load(self._state)

    def _read(self, tokens: Tensor) -> Tuple[Tensor, StreamState]:
        """Read a prompt [T] by itself: the features [1, D] after it, and the state."""
        first, *rest = tokens.unsqueeze(1).split(max(1, self._network.sizes.context // 4))
        features, state = self._network(first)
        for part in rest:
            features, state = self._network(part, state)
        return features[-1], state

    def logits(self) -> Tensor:
        """Logits [B, V] of what comes next in each lane, in float32."""
        if self._apart and not self._projects_apart:
            parts = [self._logits(lane) for lane in self._features.split(1)]
            return torch.cat(parts).float()
        return self._logits(self._features)[: self._count].float()

    def read(self, tokens: Tensor) -> None:
        """Read one token in each lane: [B]."""
        if self._step is not None:
            self._features = self._step.read(self._network, self._filled(tokens))
            return
        features, self._state = self._network(self._filled(tokens).unsqueeze(0), self._state)
        self._features = features[0]

    def close(self) -> None:
        """Give back what the lanes have borrowed. They cannot read on."""
        if self._step is not None:
            give_back(self._network, self._step)

    def _filled(self, rows: Tensor) -> Tensor:
        """The rows of the lanes, and rows of nothing up to the fixed number."""
        missing = self._rows - len(rows)
        return rows if missing == 0 else torch.cat([rows, rows.new_zeros((missing, *rows.shape[1:]))])

    def _joined(self, states: List[StreamState]) -> StreamState:
        layers = []
        for parts in zip(*(state.layers for state in states)):
            memory: Any = None
            if parts[0].memory is not None:
                memory = LaneMemories([*(part.memory for part in parts), *[None] * (self._rows - self._count)])
            hidden, cell = (torch.cat([getattr(part, name) for part in parts]) for name in ("hidden", "cell"))
            layers.append(LayerState(self._filled(hidden), self._filled(cell), memory))
        return StreamState(tuple(layers))


class Ensemble:
    """The lanes of several models: each reads what is drawn, and their probabilities are averaged, as `score` does."""

    def __init__(self, predictors: Sequence[Predictor], prompts: Sequence[Tensor]):
        self._models = [Lanes(predictor, prompts) for predictor in predictors]

    def logits(self) -> Tensor:
        """Logits [B, V], or log probabilities, of what comes next in each lane, in float32."""
        if len(self._models) == 1:
            return self._models[0].logits()
        log_probs = torch.stack([lanes.logits().log_softmax(-1) for lanes in self._models])
        return log_probs.logsumexp(0) - math.log(len(self._models))

    def read(self, tokens: Tensor) -> None:
        """Read one token in each lane: [B]."""
        for lanes in self._models:
            lanes.read(tokens)

    def close(self) -> None:
        """Give back what the lanes have borrowed. They cannot read on."""
        for lanes in self._models:
            lanes.close()


def most_lanes(network: StreamNetwork) -> int:
    """Lanes of one batch."""
    if network.steps_apart():
        return MOST_LANES
    return _LANES_ON_CPU if network.blocks[0].ln_input.weight.device.type == "cpu" else _LANES_ON_CUDA


def _picker(choice: Tensor) -> Callable[[Tensor], Tensor]:
    """What takes the columns `choice` [N] of logits [B, V]. Neighbours are a view: nothing is copied."""
    ids = choice.tolist()
    if ids == list(range(ids[0], ids[0] + len(ids))):
        return lambda logits: logits[:, ids[0] : ids[0] + len(ids)]
    return lambda logits: logits.index_select(1, choice)


@torch.no_grad()
def draw_tokens(
    predictors: Sequence[Predictor],
    prompts: Sequence[Tensor],
    choice: Tensor,
    settings: Settings,
    seeds: Sequence[Optional[int]],
) -> Iterator[List[int]]:
    """Continue each of a few prompts [T] (ids, the start symbol first): the token drawn in each lane, `length` times.

    predictors: one model, or several whose probabilities are averaged. choice: the ids to draw from. seeds: one a
    prompt; None draws from torch's default generator. Raises UsageError where the model's outputs are NaN.
    """
    device = choice.device
    generators = [None if seed is None else torch.Generator(device=device).manual_seed(seed) for seed in seeds]
    if settings.length == 0:
        return
    lanes = Ensemble(predictors, prompts)
    pick = _picker(choice)
    by_place = torch.cat([choice, choice.new_full((1,), -1)])  # place -1 stands for NaN
    try:
        for step in range(settings.length):
            places = draw_each(pick(lanes.logits()), settings, generators)
            tokens = by_place.take(places)
            numbers = tokens.tolist()
            if -1 in numbers:
                raise UsageError("the model's outputs are not numbers (NaN): load weights that are finite")
            yield numbers
            if step + 1 < settings.length:
                lanes.read(tokens)
    finally:
        lanes.close()


def sample_prompts(
    predictors: Sequence[Predictor],
    codec: Codec,
    prompts: Sequence[bytes],
    settings: Settings,
    seeds: Sequence[Optional[int]],
) -> Iterator[Piece]:
    """The samples in pieces as they are drawn, each prompt's own text first.

    predictors: one model, or several whose probabilities are averaged. seeds: one a prompt.
    """
    device = next(predictors[0].network.parameters()).device
    seeds = each_seed(seeds)
    read = [codec.encode_prompt(prompt) for prompt in prompts]
    choice = torch.tensor(list(codec.drawn), device=device)
    size = min(most_lanes(predictor.network) for predictor in predictors)
    for first in range(0, len(prompts), size):
        numbers = range(first, min(first + size, len(prompts)))
        shown = [Continuation(codec, read[number]) for number in numbers]
        for number in numbers:
            yield Piece(number, prompts[number], last=settings.length == 0)
        tokens = [torch.tensor([codec.start, *read[number]], device=device) for number in numbers]
        steps = draw_tokens(predictors, tokens, choice, settings, [seeds[number] for number in numbers])
        for step, drawn in enumerate(steps, start=1):
            last = step == settings.length
            for number, lane, token in zip(numbers, shown, drawn):
                text = lane.add(token, last)
                if text or last:
                    yield Piece(number, text, last)


class Continuation:
    """The text of what is drawn after a prompt, as far as it is settled."""

    def __init__(self, codec: Codec, read: Sequence[int]):
        self._codec, self._read = codec, list(read)
        self._drawn: List[int] = []
        self._shown = 0

    def add(self, token: int, last: bool) -> bytes:
        """What can be shown after one more token; with the last one, all that is left."""
        self._drawn.append(token)
        if self._codec.fixed:
            return self._codec.decode([token])
        if not last and token != self._codec.start:
            return b""  # the spaces of a line of words may depend on the words to come
        text = self.text()
        new, self._shown = text[self._shown :], len(text)
        return new

    def text(self) -> bytes:
        """All of it, as it reads behind the prompt (whether a space comes between depends on both)."""
        before, whole = self._codec.decode(self._read), self._codec.decode(self._read + self._drawn)
        return whole[len(before) :] if whole.startswith(before) else self._codec.decode(self._drawn)
