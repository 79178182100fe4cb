"""The step of generation on CUDA: on CPU with a tape for the CUDA graph, and on a GPU where there is one."""

import copy
import gc
import pickle
import weakref
from functools import partial
from itertools import islice
from unittest.mock import Mock, create_autospec

import pytest
import torch

from fairseq_sharnn.data.codecs import ByteCodec
from fairseq_sharnn.modules.memory import LaneMemories
from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNSizes
from fairseq_sharnn.modules.stream_state import LayerState, StreamState
from fairseq_sharnn.portable import replayed
from fairseq_sharnn.portable.config import PortableConfig
from fairseq_sharnn.portable.model import Model
from fairseq_sharnn.portable.network import PortableNetwork
from fairseq_sharnn.portable.sampling import Settings
from tests.conftest import real_text
from tests.unit import tape
from tests.unit.counted import Waits

needs_cuda = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
# type, and the largest difference of a log probability
ON_CUDA = [(torch.float64, 1e-6), (torch.float32, 1e-4), (torch.float16, 0.05)]
PROMPTS = ["", "a", "one two three four five", "x" * 20]


def tiny(**changes) -> Model:
    """A byte model of random weights, large enough that its probabilities differ, in float64."""
    sizes = {"vocab": 260, "width": 16, "boom_width": 48, "layers": 2, "attention_layers": (0, 1), "context": 13}
    config = PortableConfig(SHARNNSizes(**{**sizes, **changes}), "bytes", chunk=20)
    torch.manual_seed(0)
    module = PortableNetwork(config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3) if parameter.dim() > 1 else parameter.add_(torch.randn_like(parameter) * 0.3)
    module.double().eval()
    module.network.collapse()
    return Model(config, module, ByteCodec())


@pytest.fixture
def taped(monkeypatch):
    """Steps are replayed on the CPU, too. Returns the names of what was recorded."""
    recorded = []

    def record(work, device):
        recorded.append(device)
        return tape.record(work, device)

    monkeypatch.setattr(replayed, "is_replayed", lambda network: not network.training)
    monkeypatch.setattr(replayed, "record", record)
    return recorded


@torch.no_grad()
def read_alone(network: SHARNN, tokens: torch.Tensor):
    """Features [T, D] after each of the tokens [T], one at a time, and the states."""
    state, features, states = None, [], []
    for token in tokens:
        found, state = network(token.view(1, 1), state)
        features.append(found[0, 0])
        states.append(state)
    return torch.stack(features), states


def joined(states) -> StreamState:
    """Lanes that have read different amounts as one state; a lane that has read nothing has no memory."""
    layers = []
    for parts in zip(*(state.layers for state in states)):
        memory = None if parts[0].memory is None else LaneMemories(part.memory for part in parts)
        hidden, cell = (torch.cat([getattr(part, name) for part in parts]) for name in ("hidden", "cell"))
        layers.append(LayerState(hidden, cell, memory))
    return StreamState(tuple(layers))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"context": 16, "layers": 3, "attention_layers": (1,)},
        {"context": 1},
        {"heads": 2, "context": 15},
        {"attention_layers": ()},
        {"static_vectors": "plain", "feed_forward": "full"},
    ],
    ids=str,
)
def test_features_are_those_of_the_network(taped, changes):
    """Three lanes with a part, most and more than all of their memory, until the ring has gone round twice and more."""
    network = tiny(**changes).network
    texts = torch.randint(4, 260, (3, 60), generator=torch.Generator().manual_seed(1))
    begun = [1, 9, 20]
    alone = [read_alone(network, text) for text in texts]
    step = replayed.take_step(network, 3)
    step.load(joined([states[count - 1] for (_, states), count in zip(alone, begun)]))
    for number in range(40):
        tokens = torch.stack([text[count + number] for text, count in zip(texts, begun)])
        expected = torch.stack([features[count + number] for (features, _), count in zip(alone, begun)])
        torch.testing.assert_close(step.read(network, tokens), expected, rtol=0, atol=1e-12)
    assert len(taped) == 1


@pytest.fixture
def plain(monkeypatch):
    """Runs something without replays."""

    def run(work):
        with monkeypatch.context() as patch:
            patch.setattr(replayed, "is_replayed", lambda network: False)
            return work()

    return run


def feed_one_by_one(stream, text):
    return torch.cat([stream.feed(text[n : n + 1]) for n in range(len(text))])


def assert_same_state(stream, other):
    for mine, theirs in zip(stream.state.layers, other.state.layers):
        torch.testing.assert_close((mine.hidden, mine.cell), (theirs.hidden, theirs.cell), rtol=0, atol=1e-12)
        rows = [None if layer.memory is None else layer.memory.rows for layer in (mine, theirs)]
        torch.testing.assert_close(*rows, rtol=0, atol=1e-12)


@pytest.mark.parametrize("after", [1, 13, 16])
def test_a_stream_continues_from_its_state_after_any_step(taped, plain, tmp_path, after):
    """Bytes one at a time, with a copy and a file in the middle, then a piece of text, then bytes again."""
    model, text = tiny(), bytes(range(40, 85))

    def rest(stream):
        return torch.cat([stream.feed(text[after : after + 5]), feed_one_by_one(stream, text[after + 5 :])])

    stream, expected = model.stream(), plain(model.stream)
    assert not taped  # a stream of longer pieces needs no graph
    found, rows = feed_one_by_one(stream, text[:after]), plain(lambda: feed_one_by_one(expected, text[:after]))
    torch.testing.assert_close(found, rows, rtol=0, atol=1e-6)  # log p, in float32
    assert_same_state(stream, expected)
    other, rows = stream.copy(), plain(lambda: rest(expected))
    stream.save(tmp_path / "stream")
    for each in (stream, other, model.stream(tmp_path / "stream")):
        torch.testing.assert_close(rest(each), rows, rtol=0, atol=1e-6)
        assert_same_state(each, expected)
    assert len(taped) == 1


def test_streams_that_take_turns(taped, plain):
    """They share one step: each time its state is loaded. A state that was kept is not overwritten."""
    model, texts = tiny(), (bytes(range(40, 70)), bytes(range(90, 60, -1)))
    streams = [model.stream() for _ in texts]
    for n in range(30):
        for stream, text in zip(streams, texts):
            stream.feed(text[n : n + 1])
        if n == 14:
            kept = [stream.copy() for stream in streams]
    for stream, early, text in zip(streams, kept, texts):
        assert_same_state(stream, plain(lambda text=text: fed(model, text)))
        assert_same_state(early, plain(lambda text=text: fed(model, text[:15])))
    assert len(taped) == 1


def fed(model, text):
    stream = model.stream()
    feed_one_by_one(stream, text)
    return stream


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"top_k": 5, "temperature": 0.7}], ids=str)
def test_samples_are_those_of_the_network(taped, plain, settings):
    """Prompts of different lengths in one batch, shorter and longer than the context."""
    model = tiny()
    draw = partial(model.sample, PROMPTS, length=20, seed=3, **settings)
    expected = plain(draw)
    assert draw() == draw() == expected and len(taped) == 1
    assert [model.sample(prompt, length=20, seed=3, **settings) for prompt in PROMPTS] == expected


def test_draws_that_run_at_the_same_time(taped, plain):
    model, settings = tiny(), Settings(length=20)
    expected = plain(lambda: [b"".join(p.text for p in model.draw([each], settings, [5])) for each in PROMPTS])
    draws = [model.draw([each], settings, [5]) for each in PROMPTS]
    pieces = list(zip(*draws))
    assert [b"".join(piece.text for piece in lane) for lane in zip(*pieces)] == expected
    assert len(taped) == len(PROMPTS)
    stopped = model.draw(PROMPTS, settings, [5] * len(PROMPTS))
    next(stopped), next(islice(stopped, 8, None))
    stopped.close()
    model.sample("a", length=3)
    assert len(taped) == len(PROMPTS)  # the draw that was stopped has given its step back


@pytest.mark.parametrize(
    "change, records, seen",
    [
        (lambda model: model.load_state_dict({k: v * 1.5 for k, v in model.state_dict().items()}), 2, True),
        (lambda model: model.network.blocks[0].boom.expand.bias.data.mul_(-9), 1, True),
        (lambda model: model.float().double(), 2, True),
        (lambda model: [setattr(p, "data", p.data.clone()) for p in model.parameters()], 2, False),
    ],
    ids=["loaded", "in place", "cast", "moved"],
)
def test_a_model_that_has_changed(taped, plain, change, records, seen):
    """Weights that moved are recorded anew; weights that changed in place are read where they are."""
    model = tiny()
    before = model.sample("The ", length=20, seed=1)
    model.network.blocks[0].attention.value.expand.bias.data.add_(3)  # hidden until the vector is computed again
    change(model)
    model.eval()
    draw = partial(model.sample, "The ", length=20, seed=1)
    assert draw() == plain(draw)
    assert (draw() != before) is seen and len(taped) == records


def test_models_in_training_copies_and_what_is_kept_of_them(taped):
    model = tiny()
    model.sample("a", length=3)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert twin.sample("a", length=9, seed=1) == model.sample("a", length=9, seed=1) and len(taped) == 2
    model.train()
    model.sample("a", length=3)
    assert len(taped) == 2
    network = weakref.ref(model.network)
    assert len(replayed._free[model.network]) == 1
    replayed._free.pop(model.network)  # the tape holds the network, which a CUDA graph does not
    del model
    gc.collect()
    assert network() is None


def test_a_step_that_cannot_be_recorded(taped, plain, monkeypatch, caplog):
    def refuse(work, device):
        taped.append(device)
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nCompile with ...")

    monkeypatch.setattr(replayed, "record", refuse)
    model = tiny()
    draw = partial(model.sample, PROMPTS, length=20, seed=1)
    assert draw() == plain(draw) == draw() and len(taped) == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in line and "CUDA graph (CUDA error: operation not permitted when stream is capturing)" in line


def test_no_operation_of_a_step_waits(taped):
    network = tiny().network
    step = replayed.take_step(network, 4)
    with Waits() as waits:
        for _ in range(3):
            step.read(network, torch.arange(4))
    assert not waits.found


def test_recording_calls_cuda_as_torch_has_it(monkeypatch):
    """By the signatures of torch.cuda: twice on a stream of its own, then once into the graph, whose replay is returned."""
    calls = Mock()
    for name in ("device", "Stream", "current_stream", "stream", "CUDAGraph", "graph"):
        fake = create_autospec(getattr(torch.cuda, name))
        monkeypatch.setattr(torch.cuda, name, fake)
        calls.attach_mock(fake, name)
    replay = replayed.record(calls.work, torch.device("cuda:1"))
    names = [name for name, _, _ in calls.mock_calls]
    assert [name for name in names if name in ("device", "stream", "work", "graph")] == [
        *("device", "stream", "work", "work", "graph", "work"),
    ]
    inside = names[names.index("graph().__enter__") : names.index("graph().__exit__")]
    assert inside[1:] == ["work"]
    own = {"stream": torch.cuda.Stream(), "capture_error_mode": "thread_local"}
    calls.graph.assert_called_once_with(torch.cuda.CUDAGraph(), **own)
    assert replay == torch.cuda.CUDAGraph().replay


@pytest.mark.parametrize("dtype, allowed", [pytest.param(*each, marks=needs_cuda) for each in ON_CUDA])
def test_replays_on_a_gpu_are_the_network(plain, monkeypatch, dtype, allowed):
    """A graph against the same steps one kernel at a time, past the context; in float32 without TF32."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    model, text = tiny(width=128, boom_width=512, context=100).to("cuda", dtype), real_text(300)
    graph, alone = model.stream(), plain(model.stream)
    for n in range(len(text)):
        found, expected = graph.feed(text[n : n + 1]), plain(lambda n=n: alone.feed(text[n : n + 1]))
        torch.testing.assert_close(found, expected, rtol=0, atol=allowed)
    assert replayed._free[model.network] and model.network not in replayed._failed
    if dtype == torch.float64:
        draw = partial(model.sample, PROMPTS, length=150, seed=3)
        assert draw() == plain(draw)
