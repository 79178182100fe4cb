"""The one place that keeps stream state between two calls of a model."""

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, Optional
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
        self._restored: Optional[Dict] = None
        self._restored_chunk: Optional[int] = None
        self._rebuild_chunk: Optional[int] = None
        self._rebuild_from: Optional[Callable[[], Iterator]] = None

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
        if chunk not in states and chunk == self._restored_chunk:
            self._before.setdefault(model, {})[chunk] = model.restore_stream_state(self._restored)
            self._restored = self._restored_chunk = None
            states = self._before[model]
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

    def saved(self, chunk: int) -> Optional[Dict]:
        """State before `chunk` as plain tensors on CPU, for a checkpoint; None where no model has run up to there."""
        if chunk == self._restored_chunk:
            return self._restored
        for states in self._before.values():
            if chunk in states:
                return states[chunk].to_dict()
        return None

    def restore(self, chunk: int, saved: Dict) -> None:
        """Begin with chunk `chunk`, from a saved state."""
        self._restored, self._restored_chunk = saved, chunk

    def rebuild(self, chunk: int, inputs: Callable[[], Iterator]) -> None:
        """Begin with chunk `chunk`, whose state is to be rebuilt by running a model over `inputs` [B, n] each."""
        self._rebuild_chunk, self._rebuild_from = chunk, inputs

    def inputs_to_rebuild(self, chunk: int) -> Optional[Iterator]:
        """What a model must read to have a state before `chunk`; None where there is nothing to rebuild. Once."""
        if chunk != self._rebuild_chunk:
            return None
        inputs, self._rebuild_chunk, self._rebuild_from = self._rebuild_from(), None, None
        return inputs

    def adopt(self, other: "StreamCarrier", other_chunk: int, chunk: int) -> None:
        """Take the states before `other_chunk` in another carrier as those before `chunk` here."""
        for model, states in other._before.items():
            self._before.setdefault(model, {})[chunk] = states[other_chunk]


@dataclass
class StreamChunk:
    """What a sample tells a streaming model: its place in the stream, and where the state is kept.

    index: number of the chunk in this pass. fresh: the lanes start empty here. training: all chunks of an update may
    be run again; elsewhere only the newest. first_byte: where in the file this worker's first lane is, in `unit`s.
    """

    index: int
    fresh: bool
    carrier: StreamCarrier = field(default_factory=StreamCarrier)
    training: bool = False
    first_byte: int = 0
    unit: str = "byte"

    def state(self, model: Any) -> Any:
        """State of `model` before this chunk; None where the lanes start."""
        return None if self.fresh else self.carrier.before(model, self.index)

    def keep(self, model: Any, state: Any) -> None:
        """Keep the state of `model` after this chunk."""
        self.carrier.keep(model, self.index + 1, state, whole_update=self.training)
