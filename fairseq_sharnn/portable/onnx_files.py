"""The step and the chunk as ONNX graphs, run in ONNX Runtime, and what they cost against torch."""

import contextlib
import importlib.util
import io
import logging
import math
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import torch

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.portable.graph import Graph

if TYPE_CHECKING:
    from fairseq_sharnn.portable.model import Model

INPUTS = ("tokens", "hidden", "cell", "memory", "filled")
OUTPUTS = ("log_probs", "next_hidden", "next_cell", "next_memory", "next_filled")
_AXES = {
    "tokens": {1: "lanes"},
    "hidden": {1: "lanes"},
    "cell": {1: "lanes"},
    "memory": {1: "lanes", 2: "rows"},
    "filled": {0: "lanes"},
    "log_probs": {1: "lanes"},
    "next_hidden": {1: "lanes"},
    "next_cell": {1: "lanes"},
    "next_memory": {1: "lanes", 2: "next_rows"},
    "next_filled": {0: "lanes"},
}
_OPSET = 17
_MEASURED = 2048  # ids


def check_packages() -> None:
    """Raises UsageError if a package for graphs is missing."""
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"--onnx and --int8 need {' and '.join(missing)}: pip install {' '.join(missing)}")


class OnnxStream:
    """Lanes that a graph reads, with their state in numpy arrays: what a program in any language would do."""

    def __init__(self, path: Path, graph: Graph, lanes: int = 1, threads: int = 1):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._taken = {value.name for value in self._session.get_inputs()}  # a model without a head needs no memory
        self.state = [part.numpy() for part in graph.start(lanes)]

    def read(self, tokens: np.ndarray) -> np.ndarray:
        """Read tokens [T, B] (int64); log p [T, B, V] of what comes after each."""
        values = dict(zip(INPUTS, [tokens, *self.state]))
        log_probs, *self.state = self._session.run(
            list(OUTPUTS), {name: value for name, value in values.items() if name in self._taken}
        )
        return log_probs


def write_graphs(
    model: "Model", folder: Path, int8: bool, say: Callable[[str], None], text: Optional[bytes] = None
) -> Dict[str, str]:
    """Write step.onnx and chunk.onnx, and with `int8` their forms with weights of 8 bits; compare them with torch.

    text: what they are compared on; by default the model draws it. Returns what was measured, by name.
    """
    graphs = {"step": Graph(model.module, step=True), "chunk": Graph(model.module, step=False)}
    for name, graph in graphs.items():
        _export(graph, folder / f"{name}.onnx", length=1 if graph.step else 3)
        if int8:
            _quantise(folder / f"{name}.onnx", folder / f"{name}.int8.onnx")
    ids, source = _ids_to_measure(model, text)
    measured = {"compared on": f"{len(ids) - 1:,} {model.codec.unit}s {source}"}
    for name, graph in graphs.items():
        exact = _torch_log_probs(model, ids, 1 if graph.step else _chunk(model))
        bits = _bits(exact, ids)
        found = _read_all(folder / f"{name}.onnx", graph, ids, model)
        measured[f"{name}.onnx"] = (
            f"the largest difference of a log probability from torch is {np.abs(found - exact).max():.1e}"
        )
        if int8:
            cost = _bits(_read_all(folder / f"{name}.int8.onnx", graph, ids, model), ids) - bits
            measured[f"{name}.int8.onnx"] = (
                f"costs {cost:+.4f} bits per {model.codec.unit} ({bits:.4f} in float32, {bits + cost:.4f} in 8 bits)"
            )
    for name, line in measured.items():
        say(f"{name}: {line}")
    return measured


def _export(graph: Graph, path: Path, length: int) -> None:
    axes = {name: dict(dims) for name, dims in _AXES.items()}
    if not graph.step:
        axes["tokens"][0] = axes["log_probs"][0] = "length"
    state = graph.start(2)
    memory = state.memory.new_zeros(
        (*state.memory.shape[:2], 4, state.memory.shape[3])
    )  # rows, so that none are assumed
    sample = (torch.zeros(length, 2, dtype=torch.int64), state.hidden, state.cell, memory, state.filled + 2)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph.eval(),
                sample,
                str(path),
                input_names=list(INPUTS),
                output_names=list(OUTPUTS),
                dynamic_axes=axes,
                opset_version=_OPSET,
                dynamo=False,
            )
    except (TypeError, ModuleNotFoundError) as error:
        raise UsageError(
            f"torch {torch.__version__} cannot write this graph ({error}): use a torch from 2.5 to 2.13 for the export"
        ) from None


def _quantise(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # it advises a preparation that changes nothing here
    try:
        quantize_dynamic(_unshared(source), str(target), weight_type=QuantType.QInt8, per_channel=True)
    finally:
        logging.disable(logging.NOTSET)


def _unshared(path: Path) -> Any:
    """The graph with a weight of its own for each product. ONNX Runtime up to 1.23 turns the weight of a product where it
    is, also for the embedding that shares it.
    """
    import onnx

    model = onnx.load(str(path))
    users = Counter(name for node in model.graph.node for name in node.input)
    for initializer in [found for found in model.graph.initializer if users[found.name] > 1]:
        for number, node in enumerate(model.graph.node):
            if node.op_type == "Gemm" and node.input[1] == initializer.name:
                copy = model.graph.initializer.add()
                copy.CopyFrom(initializer)
                copy.name = node.input[1] = f"{initializer.name}_of_{number}"
    return model


def _ids_to_measure(model: "Model", text: Optional[bytes]) -> Tuple[List[int], str]:
    """The start symbol and the ids to compare on, and where they are from."""
    from fairseq_sharnn.portable.sampling import Settings, draw_tokens

    codec = model.codec
    if text is not None:
        return [codec.start, *codec.encode_file(text, "the text").ids[:_MEASURED].tolist()], "of the given text"
    choice, start = torch.tensor(list(codec.drawn)), torch.tensor([codec.start])
    drawn = draw_tokens([model.predictor], [start], choice, Settings(_MEASURED), [1])
    return [codec.start, *(tokens[0] for tokens in drawn)], "that the model drew itself"


def _chunk(model: "Model") -> int:
    return max(1, min(model.config.chunk, model.config.sizes.context - 1))


@torch.no_grad()
def _torch_log_probs(model: "Model", ids: List[int], size: int) -> np.ndarray:
    """log p [N, V] after each id but the last, by the model itself, `size` ids at a time."""
    state, parts = None, []
    for part in torch.tensor(ids[:-1]).unsqueeze(1).split(size):
        features, state = model.network(part, state)
        parts.append(model.output.log_probs(features[:, 0]))
    return torch.cat(parts).numpy()


def _read_all(path: Path, graph: Graph, ids: List[int], model: "Model") -> np.ndarray:
    """log p [N, V] after each id but the last, by a graph."""
    stream, size = OnnxStream(path, graph), 1 if graph.step else _chunk(model)
    tokens = np.asarray(ids[:-1], dtype=np.int64)[:, None]
    return np.concatenate([stream.read(tokens[at : at + size])[:, 0] for at in range(0, len(tokens), size)])


def _bits(log_probs: np.ndarray, ids: List[int]) -> float:
    """Mean bits of the ids after the first."""
    return float(-log_probs[np.arange(len(ids) - 1), ids[1:]].astype(np.float64).mean() / math.log(2))
