"""One loop that both sides run: the model predicts, one symbol a lane is written or read, the model reads the symbols.

Encoder and decoder differ in one call, `exchange`. All that touches floating-point numbers is the same code with the same
shapes in the same order: steps of [1, lanes] tokens, because a decoder has no chunk yet. With dynamic evaluation both
then learn from the chunk that they have just finished.

A lane of static `score` begins with the id before its stretch, the last one of the lane before. A decoder has it only if
that lane is done. So lanes are read in rounds: a lane begins when the one before it is done, or it begins without that id,
as the text does. The latter costs about a byte. `together` allows it as often as a text pays for it.
"""

from typing import Any, Callable, Iterator, List, Optional

import numpy as np
import torch
from torch import Tensor

from fairseq_sharnn.data.streams.lanes import evaluation_lanes
from fairseq_sharnn.data.text.vocabulary import BYTE_VALUES, FIRST_BYTE
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.evaluation.dynamic import Learner
from fairseq_sharnn.modules.stream_state import StreamState
from fairseq_sharnn.portable.compressor.container import Settings
from fairseq_sharnn.portable.model import Model

# From where the next symbols stand in the text [n], and the probabilities [n, C], to the symbols [n].
Exchange = Callable[[np.ndarray, np.ndarray], np.ndarray]

# The coder's probabilities have 24 bits, and each symbol has at least one step of them. So a symbol costs this at least.
_STEP = 2.0**-24

# Ids for each lane that begins without the id before its stretch: at 1 bit an id they take 1,024 bytes, so a byte is 0.1 %.
_IDS_FOR_A_START = 8192


class Damaged(Exception):
    """The words are not those that the encoder wrote with these probabilities."""


class Encoder:
    """Writes the symbols [N] of a text."""

    def __init__(self, symbols: np.ndarray):
        stream = coder().stream
        self._symbols, self._family = symbols, stream.model.Categorical(perfect=False)
        self._coder = stream.queue.RangeEncoder()

    def __call__(self, places: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        symbols = self._symbols[places].astype(np.int32)
        self._coder.encode(symbols, self._family, probabilities)
        return symbols

    def words(self) -> np.ndarray:
        """All that was written: [W], uint32."""
        return self._coder.get_compressed()


class Decoder:
    """Reads the symbols of a text of N from words [W] into `symbols` [N]."""

    def __init__(self, words: np.ndarray, count: int, most_symbols: int):
        stream = coder().stream
        self.symbols = np.zeros(count, dtype=np.uint8 if most_symbols <= BYTE_VALUES else np.int32)
        self._family, self._coder = stream.model.Categorical(perfect=False), stream.queue.RangeDecoder(words)
        self._bits = 32.0 * (len(words) + 2)  # all that the words can hold

    def __call__(self, places: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Raises Damaged at words that no encoder writes, and when the symbols hold more than all the words."""
        try:
            symbols = self._coder.decode(self._family, probabilities)
        except AssertionError:
            raise Damaged from None
        self.symbols[places] = symbols
        found = probabilities[np.arange(len(symbols)), symbols]
        self._bits += float(np.log2(found + _STEP).sum())
        if self._bits < 0:
            raise Damaged
        return symbols


def together(count: int, settings: Settings) -> int:
    """How many lanes of a text of `count` ids are read at the same time.

    With dynamic evaluation all: there every lane of `score` begins as the text does.
    """
    return settings.lanes if settings.dynamic.learns else min(settings.lanes, 1 + count // _IDS_FOR_A_START)


def rounds(lanes: int, most: int) -> Iterator[np.ndarray]:
    """The numbers [n] of the lanes that are read at the same time, at most `most`, round after round.

    All but the first round read the lanes that follow those of the round before.
    """
    length = -(-lanes // most)
    for first in range(length):
        yield np.arange(first, lanes, length)


def run(
    model: Model,
    count: int,
    settings: Settings,
    most: int,
    exchange: Exchange,
    advance: Callable[[int], object] = lambda count: None,
) -> None:
    """Go through a text of `count` ids. most: lanes at a time. advance: called with the number of ids that are done.

    The model's weights are the trained ones again at the end. Raises UsageError if its probabilities are not finite.
    """
    codec = model.codec
    plan = evaluation_lanes(count, settings.lanes)
    last = np.full(settings.lanes, codec.start, dtype=np.int64)  # the last token of each lane so far
    for number, lanes in enumerate(rounds(settings.lanes, most)):
        scored, first = plan.scored[lanes], plan.first[lanes]
        before = np.full(len(lanes), codec.start) if number == 0 else last[lanes - 1]
        columns = int(scored.max())
        with _Reader(model, settings, before) as reader:
            for column in range(columns):
                reading = np.flatnonzero(scored > column)
                probabilities = _probabilities(model, reader.features)
                if not np.isfinite(probabilities).all():
                    raise UsageError(
                        "the model's probabilities are not finite: lower --dynamic-lr, or use another model"
                    )
                symbols = exchange(first[reading] + column, probabilities[reading])
                tokens = np.full(len(lanes), codec.pad, dtype=np.int64)
                tokens[reading] = last[lanes[reading]] = symbols + (FIRST_BYTE if codec.unit == "byte" else 0)
                if column + 1 < columns:
                    reader.read(torch.from_numpy(tokens))
                advance(len(reading))


@torch.no_grad()
def _probabilities(model: Model, features: Tensor) -> np.ndarray:
    """p [B, C] in float64 after features [B, D]. They add up to 1 over the symbols that can occur."""
    return model.log_probs(features).double().softmax(dim=1).numpy()


class _Reader:
    """The model over the lanes of a round, a step at a time. features [B, D]: after what was read.

    With dynamic evaluation it reads each chunk twice: in steps, and then whole, which gives the loss to learn from and the
    state in which the next chunk starts.
    """

    def __init__(self, model: Model, settings: Settings, before: np.ndarray):
        """before: the token [B] before each lane."""
        self._model, self._chunk = model, settings.chunk
        self._learner: Optional[Learner] = None
        if settings.dynamic.learns:
            self._learner = Learner(model.module, settings.dynamic)
        self._chunk_state: Optional[StreamState] = None
        self._tokens: List[Tensor] = []  # what was read of this chunk, and the token after it
        self._state: Optional[StreamState] = None
        self.features: Tensor
        self.read(torch.from_numpy(before))

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *unused: Any) -> None:
        if self._learner is not None:
            self._learner.restore()

    def read(self, tokens: Tensor) -> None:
        """Read one token in each lane [B]. First learn from the chunk that they complete."""
        if self._learner is not None:
            if len(self._tokens) == self._chunk:
                self._learn(self._learner, torch.stack([*self._tokens, tokens]))
                self._tokens = []
            self._tokens.append(tokens)
        with torch.no_grad():
            features, self._state = self._model.network(tokens.unsqueeze(0), self._state)
        self.features = features[0]

    def _learn(self, learner: Learner, tokens: Tensor) -> None:
        """Learn from a chunk: tokens [T + 1, B], of which the last T are the targets."""
        model, targets = self._model, tokens[1:]
        scored = targets != model.codec.pad
        with torch.enable_grad():
            features, state = model.network(tokens[:-1], self._chunk_state)
            learner.learn(-model.output.target_log_probs(features[scored], targets[scored]).mean())
        self._chunk_state = state
        # a copy, so that the next chunk's steps leave the blocks of its memory to its second reading
        self._state = state.map(torch.clone)


def coder() -> Any:
    """The package with the range coder. Raises UsageError if it is missing."""
    try:
        import constriction
    except ModuleNotFoundError:
        raise UsageError("compress and decompress need constriction: pip install constriction") from None
    return constriction
