"""The one place that keeps stream state between two calls of a model."""

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional, Union
from weakref import WeakKeyDictionary


class Restore(NamedTuple):
    """Begin with chunk number `chunk`, from the state that a checkpoint holds."""

    chunk: int
    saved: Dict[str, Any]


class Rebuild(NamedTuple):
    """Begin with chunk number `chunk`, from the state that a model has after it has read `inputs()` ([B, n] each)."""

    chunk: int
    inputs: Callable[[], Iterator[Any]]


class StreamCarrier:
    """State of each model after the last chunk of one pass over one split.

    State is keyed by chunk number. A chunk that is run again (a step repeated after an overflow, fairseq's NaN
    detector) starts from the state it started from before. A new pass has a new carrier, so nothing survives into
    another epoch, split or validation.

    keep_whole_update: in training all chunks of an update may be run again, so the state before each of them is kept.
        Otherwise only the newest chunk can be run again.
    start: where the first pass begins, if it is not at the start of the lanes. Its state is taken once.
    """

    def __init__(self, keep_whole_update: bool = False):
        self.keep_whole_update = keep_whole_update
        self.start: Optional[Union[Restore, Rebuild]] = None
        self._before: WeakKeyDictionary[Any, Dict[int, Any]] = WeakKeyDictionary()
        self._update: Optional[int] = None

    def emptied(self) -> "StreamCarrier":
        """A carrier of the same kind for a new pass."""
        return StreamCarrier(self.keep_whole_update)

    def begin_update(self, number: int) -> None:
        """Note that the chunks that follow belong to update `number`. A repeated update has the same number again."""
        if number != self._update:
            self._update = number
            for states in self._before.values():
                newest = max(states)
                for chunk in [chunk for chunk in states if chunk != newest]:
                    del states[chunk]

    def before(self, model: Any, chunk: int) -> Any:
        """State of `model` before `chunk`. Raises RuntimeError when the chunks before were not run."""
        if isinstance(self.start, Restore) and self.start.chunk == chunk and chunk not in self._before.get(model, {}):
            self._before.setdefault(model, {})[chunk] = model.restore_stream_state(self.start.saved)
            self.start = None
        states = self._before.get(model, {})
        if chunk not in states:
            raise RuntimeError(f"chunk {chunk} of a stream came after {sorted(states) or 'nothing'}: chunks were lost")
        return states[chunk]

    def keep(self, model: Any, chunk: int, state: Any) -> None:
        """Keep the state of `model` before `chunk`, and let go of states that are not needed again."""
        states = self._before.setdefault(model, {})
        states[chunk] = state
        if not self.keep_whole_update:
            for old in [number for number in states if number < chunk - 1]:
                del states[old]

    def saved(self, chunk: int) -> Optional[Dict[str, Any]]:
        """State before `chunk` as plain tensors on CPU, for a checkpoint. None where no model has run up to there."""
        if isinstance(self.start, Restore) and self.start.chunk == chunk:
            return self.start.saved
        for states in self._before.values():
            if chunk in states:
                return states[chunk].to_dict()
        return None

    def inputs_to_rebuild(self, chunk: int) -> Optional[Iterator[Any]]:
        """What a model must read to have a state before `chunk`. None where there is nothing to rebuild, or no more."""
        if not isinstance(self.start, Rebuild) or self.start.chunk != chunk:
            return None
        inputs, self.start = self.start.inputs(), None
        return inputs

    def adopt(self, other: "StreamCarrier", other_chunk: int, chunk: int) -> None:
        """Take the states before `other_chunk` in another carrier as those before `chunk` here."""
        for model, states in other._before.items():
            self._before.setdefault(model, {})[chunk] = states[other_chunk]


@dataclass
class StreamChunk:
    """What a sample tells a streaming model: its place in the stream, and where the state is kept.

    index: number of the chunk in this pass. fresh: the lanes start empty here. first_position: where in the file this
    worker's first lane is, counted in `unit`s.
    """

    index: int
    fresh: bool
    carrier: StreamCarrier = field(default_factory=StreamCarrier)
    first_position: int = 0
    unit: str = "byte"

    def state(self, model: Any) -> Any:
        """State of `model` before this chunk. None where the lanes start."""
        return None if self.fresh else self.carrier.before(model, self.index)

    def keep(self, model: Any, state: Any) -> None:
        """Keep the state of `model` after this chunk."""
        self.carrier.keep(model, self.index + 1, state)
