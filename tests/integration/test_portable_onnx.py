"""The ONNX graphs in ONNX Runtime, against torch, on real text that is longer than the context."""

import re
import sys

import numpy as np
import pytest
import torch

from fairseq_sharnn.data.codecs import ByteCodec
from fairseq_sharnn.modules.sha_rnn import SHARNNSizes
from fairseq_sharnn.portable.config import AdaptiveConfig, PortableConfig
from fairseq_sharnn.portable.graph import Graph
from fairseq_sharnn.portable.model import Model
from fairseq_sharnn.portable.network import PortableNetwork
from fairseq_sharnn.portable.onnx_files import OnnxStream, write_graphs
from tests.conftest import ROOT, real_text, run_command


def tiny(**changes) -> Model:
    """A model of random weights, large enough that its probabilities differ."""
    adaptive = changes.pop("adaptive", None)
    sizes = {"vocab": 260, "width": 32, "boom_width": 80, "layers": 3, "attention_layers": (1,), "context": 48}
    config = PortableConfig(SHARNNSizes(**{**sizes, **changes}), "bytes", chunk=20, adaptive=adaptive)
    torch.manual_seed(0)
    module = PortableNetwork(config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5) if parameter.dim() > 1 else parameter.add_(torch.randn_like(parameter) * 0.3)
    module.eval()
    module.network.collapse()
    return Model(config, module, ByteCodec())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_layers": (0, 1, 2), "heads": 2},
        {"attention_layers": ()},
        {"static_vectors": "plain", "feed_forward": "full"},
        {"adaptive": AdaptiveConfig((60, 110), 2.0, False)},
    ],
)
def test_every_log_probability_is_torchs(tmp_path, changes):
    model, text = tiny(**changes), np.frombuffer(real_text(2000), dtype=np.uint8).astype(np.int64) + 4
    write_graphs(model, tmp_path, int8=False, say=lambda line: None)
    tokens = text.reshape(2, 1000).T  # two lanes
    for name, lengths in (("step", [1]), ("chunk", [20, 1, 7, 47])):
        stream = OnnxStream(tmp_path / f"{name}.onnx", Graph(model.module, name == "step"), lanes=2)
        state, at, worst, number = None, 0, 0.0, 0
        while at < len(tokens):
            part = np.ascontiguousarray(tokens[at : at + lengths[number % len(lengths)]])
            found = stream.read(part)
            with torch.no_grad():
                features, state = model.network(torch.from_numpy(part), state)
                exact = model.output.log_probs(features.flatten(0, 1)).view(*part.shape, -1).numpy()
            worst = max(worst, np.abs(found - exact).max())
            at, number = at + len(part), number + 1
        assert worst < 1e-4, (name, worst)
        if model.config.sizes.attention_layers:
            assert stream.state[2].shape[2] == 48 and stream.state[3].tolist() == [48, 48]


def test_lanes_that_have_read_different_amounts_share_a_graph(tmp_path):
    """`filled` hides the rows that a lane does not have."""
    model = tiny()
    write_graphs(model, tmp_path, int8=False, say=lambda line: None)
    graph = Graph(model.module, step=True)
    alone = [OnnxStream(tmp_path / "step.onnx", graph) for _ in range(2)]
    for stream, count in zip(alone, (30, 3)):
        for token in range(count):
            stream.read(np.array([[token + 10]]))
    together = OnnxStream(tmp_path / "step.onnx", graph, lanes=2)
    long, short = alone[0].state, alone[1].state
    gap = np.zeros((1, 1, 27, 32), dtype=np.float32)
    memory = np.concatenate([long[2], np.concatenate([gap, short[2]], axis=2)], axis=1)
    joined = [np.concatenate([one, two], axis=1) for one, two in zip(long[:2], short[:2])]
    together.state = [*joined, memory, np.concatenate([long[3], short[3]])]
    for token in range(60):
        found = together.read(np.array([[token, token + 50]]))
        for lane, stream in enumerate(alone):
            expected = stream.read(np.array([[token + 50 * lane]]))
            np.testing.assert_allclose(found[:, lane], expected[:, 0], atol=1e-4)


def test_export_prints_parity_and_the_cost_of_int8(trained, corpus, tmp_path):
    finished = run_command(
        *(sys.executable, ROOT / "tests" / "without.py", "fairseq,omegaconf,hydra", "-m", "fairseq_sharnn", "export"),
        *(trained[0] / "checkpoint_best.pt", tmp_path / "out", "--int8", "--text", corpus / "test"),
    )
    assert finished.code == 0, finished.output
    for name in ("step", "chunk"):
        difference = float(re.search(rf"{name}\.onnx: the largest .* ([\d.e-]+)", finished.output)[1])
        cost = float(re.search(rf"{name}\.int8\.onnx: costs ([+-][\d.]+) bits per byte", finished.output)[1])
        assert difference < 1e-4 and abs(cost) < 0.05
        assert (tmp_path / "out" / f"{name}.int8.onnx").stat().st_size < (
            tmp_path / "out" / f"{name}.onnx"
        ).stat().st_size
    assert "step.int8.onnx | costs" in (tmp_path / "out" / "README.md").read_text()
