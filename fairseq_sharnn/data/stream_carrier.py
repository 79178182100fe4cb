"""The one place that keeps stream state between two calls of a model."""

from dataclasses import dataclass, field
from typing import Any, Dict
from weakref import WeakKeyDictionary


class StreamCarrier:
    """State of each model after the last chunk of one pass over one split.

    State is keyed by chunk number, and the state before each chunk of the current update is kept, so that a chunk that
    is run again (a step repeated after an overflow, fairseq's NaN detector) starts from where it started before.
    A new pass makes a new carrier: nothing survives into another epoch, split or validation.
    """

    def __init__(self):
        self._before: WeakKeyDictionary[Any, Dict[int, Any]] = WeakKeyDictionary()
        self._update = None

    def begin_update(self, number: int) -> None:
        """Tell that the chunks that follow belong to update `number`; a repeated update begins with the same number."""
        if number != self._update:
            self._update = number
            for states in self._before.values():
                newest = max(states)
                for chunk in [chunk for chunk in states if chunk != newest]:
                    del states[chunk]

    def before(self, model: Any, chunk: int) -> Any:
        """State of `model` before `chunk`. Raises RuntimeError when the chunks before were not run."""
        states = self._before.get(model, {})
        if chunk not in states:
            raise RuntimeError(f"chunk {chunk} of a stream came after {sorted(states) or 'nothing'}: chunks were lost")
        return states[chunk]

    def keep(self, model: Any, chunk: int, state: Any, whole_update: bool) -> None:
        """Keep the state of `model` before `chunk`, and those of the whole update or of one chunk before it."""
        states = self._before.setdefault(model, {})
        states[chunk] = state
        if not whole_update:
            for old in [number for number in states if number < chunk - 1]:
                del states[old]


@dataclass
class StreamChunk:
    """What a sample tells a streaming model: its place in the stream, and where the state is kept.

    index: number of the chunk in this pass. fresh: the lanes start empty here. training: all chunks of an update may
    be run again; elsewhere only the newest.
    """

    index: int
    fresh: bool
    carrier: StreamCarrier = field(default_factory=StreamCarrier)
    training: bool = False

    def state(self, model: Any) -> Any:
        """State of `model` before this chunk; None where the lanes start."""
        return None if self.fresh else self.carrier.before(model, self.index)

    def keep(self, model: Any, state: Any) -> None:
        """Keep the state of `model` after this chunk."""
        self.carrier.keep(model, self.index + 1, state, whole_update=self.training)
