"""Generation on CUDA: one step of the network, recorded as a CUDA graph and replayed for each token.

A step is about a hundred small kernels, and starting them one by one takes longer than they run. A replay starts them all
at once. What is recorded is the blocks' own `forward`, over state at fixed addresses. (The step of the ONNX graphs,
portable/graph.py, could not serve: its memory grows, and that is what programs in other languages call.)
"""

import logging
import threading
import weakref
from functools import partial
from typing import Any, Callable, List, MutableMapping, Optional, Tuple

import torch
from torch import Tensor

from fairseq_sharnn.modules.fixed_memory import FixedMemory, Ring
from fairseq_sharnn.modules.sha_rnn import StreamNetwork
from fairseq_sharnn.modules.stream_state import LayerState, StreamState

logger = logging.getLogger(__name__)


class ReplayedStep:
    """One token in each of B lanes of a network in inference, with state that is written in place.

    A replay reads the parameters where they were when it was recorded: `fits` says whether they still are. The network
    itself is an argument, so that a step does not keep it alive.
    """

    def __init__(self, network: StreamNetwork, lanes: int):
        like = network.blocks[0].ln_input.weight.detach()
        with torch.inference_mode(False), torch.no_grad():
            self._ring = Ring(lanes, network.sizes.context, like.device)
            self._h = like.new_zeros((1, lanes, network.sizes.width))
            self._features = like.new_zeros((lanes, network.sizes.width))
            self._layers = [self._empty(block.attention is not None, lanes, like) for block in network.blocks]
            self.lanes, self._addresses = lanes, _addresses(network)
            self._replay = record(partial(self._run, network.blocks), like.device)
        self._counts, self._steps = [0] * lanes, 0
        self._holds: Callable[[], Optional[StreamState]] = lambda: None

    def _empty(self, attends: bool, lanes: int, like: Tensor) -> LayerState:
        hidden, cell = (like.new_zeros((lanes, like.size(0))) for _ in range(2))
        memory: Any = FixedMemory(self._ring, lanes, like) if attends else None
        return LayerState(hidden, cell, memory)

    def fits(self, network: StreamNetwork) -> bool:
        """Whether the network's parameters are where the step reads them."""
        return self._addresses == _addresses(network)

    @torch.no_grad()
    def load(self, state: StreamState) -> None:
        """Continue from a state of B lanes, whose memories may be a LaneMemories."""
        if self._holds() is state:
            return
        self._counts, self._steps = [0] * self.lanes, 0
        for mine, layer in zip(self._layers, state.layers):
            mine.hidden.copy_(layer.hidden)
            mine.cell.copy_(layer.cell)
            if isinstance(mine.memory, FixedMemory):
                self._counts = mine.memory.load(layer.memory)
        self._ring.begin(self._counts)

    @torch.no_grad()
    def read(self, network: StreamNetwork, tokens: Tensor) -> Tensor:
        """Features [B, D] after one token in each lane [B]. The next call overwrites them."""
        self._h.copy_(network.embed(tokens))
        self._replay()
        self._steps += 1
        self._holds = lambda: None
        return self._features

    def state(self) -> StreamState:
        """A copy of the state, for lanes that have all read as much."""
        count, stop = min(self._counts[0] + self._steps, self._ring.context), self._steps % self._ring.size
        layers = []
        for layer in self._layers:
            memory = layer.memory.to_memory(count, stop) if isinstance(layer.memory, FixedMemory) else None
            layers.append(LayerState(layer.hidden.clone(), layer.cell.clone(), memory))
        state = StreamState(tuple(layers))
        self._holds = weakref.ref(state)
        return state

    def _run(self, blocks: Any) -> None:
        """The step itself: from `_h` to `_features`, with the state in place. Nothing in it depends on a Python value."""
        self._ring.show_next()
        h = self._h
        for block, layer in zip(blocks, self._layers):
            h, after = block(h, layer)
            layer.hidden.copy_(after.hidden)
            layer.cell.copy_(after.cell)
        self._features.copy_(h[0])
        self._ring.advance()


_recording = threading.Lock()  # torch records one graph at a time


def record(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Record what a function does on a CUDA device; returns what does it again.

    Raises RuntimeError if it cannot be recorded. The function runs twice before, so that the libraries choose their
    kernels and take their work space; on a stream of its own, as CUDA asks for.
    """
    with _recording, torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()
            work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # torch's own stream for this is one of the GPU that recorded first
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            work()
    return graph.replay


# Steps that are not in use, and networks whose step could not be recorded. Two draws at the same time use two steps.
_free: MutableMapping[StreamNetwork, List[ReplayedStep]] = weakref.WeakKeyDictionary()
_failed: "weakref.WeakSet[StreamNetwork]" = weakref.WeakSet()


def is_replayed(network: StreamNetwork) -> bool:
    """Whether single steps of a network are replayed: in inference on CUDA, outside autocast."""
    on_cuda = network.blocks[0].ln_input.weight.device.type == "cuda"
    return on_cuda and not network.training and not torch.is_autocast_enabled("cuda")


def take_step(network: StreamNetwork, lanes: int) -> Optional[ReplayedStep]:
    """A step for so many lanes, which the caller gives back (`give_back`). None: the network itself must run."""
    if not is_replayed(network) or network in _failed:
        return None
    free = _free.setdefault(network, [])
    free[:] = [step for step in free if step.fits(network)]
    for number, step in enumerate(free):
        if step.lanes == lanes:
            return free.pop(number)
    try:
        return ReplayedStep(network, lanes)
    except RuntimeError as error:
        _failed.add(network)
        logger.warning(
            f"a step of this model cannot be recorded as a CUDA graph ({_first_line(error)}): it runs without one, which is "
            "slower"
        )
        return None


def give_back(network: StreamNetwork, step: ReplayedStep) -> None:
    """Keep a step for later."""
    _free.setdefault(network, []).append(step)


def read_one(network: StreamNetwork, token: Tensor, state: StreamState) -> Tuple[Tensor, StreamState]:
    """`network` over a single token [1, 1] from a state of one lane, by a replay where there is one."""
    step = take_step(network, 1)
    if step is None:
        return network(token, state)
    step.load(state)
    features = step.read(network, token[0]).clone().unsqueeze(0)
    state = step.state()
    give_back(network, step)
    return features, state


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _addresses(network: StreamNetwork) -> Tuple[Tuple[int, torch.dtype], ...]:
    """Where the blocks' parameters are, and the collapsed vectors."""
    tensors: List[Tensor] = list(network.blocks.parameters())
    for block in network.blocks:
        collapsed = None if block.attention is None else getattr(block.attention.value, "_collapsed", None)
        tensors += [] if collapsed is None else [collapsed]
    return tuple((tensor.data_ptr(), tensor.dtype) for tensor in tensors)
