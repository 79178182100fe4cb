"""A single step of the whole network as one operator, against the plain modules and against itself."""

import copy

import pytest
import torch
from torch import nn

from fairseq_sharnn.modules.memory import LaneMemories
from fairseq_sharnn.modules.sha_rnn import SHARNNSizes
from fairseq_sharnn.modules.stream_state import LayerState, StreamState
from fairseq_sharnn.ops import kernels
from fairseq_sharnn.ops.step import MOST_LANES, narrowed, project
from tests.unit.ops.oracle import close, needs_kernels
from tests.unit.ops.stepping import randomised, read

pytestmark = needs_kernels


@pytest.fixture
def ran(monkeypatch):
    """How many lanes each call of the operator had."""
    lanes = []
    run = kernels.ops.step
    monkeypatch.setattr(kernels.ops, "step", lambda h, *given: lanes.append(len(h)) or run(h, *given))
    return lanes


class OtherNorm(nn.LayerNorm):
    """What `layer_norm` may be, such as apex's: the same formula by another class."""


@pytest.mark.parametrize(
    "sizes, layer_norm",
    [
        (SHARNNSizes(50, 32, 64, 4, (2,), 1, 20), nn.LayerNorm),
        (SHARNNSizes(50, 32, 100, 2, (0, 1), 2, 4), nn.LayerNorm),
        (SHARNNSizes(50, 36, 36, 3, (), 1, 20), OtherNorm),
        (SHARNNSizes(50, 48, 96, 2, (0, 1), 3, 700, "plain"), OtherNorm),
        (SHARNNSizes(50, 10, 35, 2, (1,), 5, 7), nn.LayerNorm),
    ],
)
@pytest.mark.parametrize("lanes", [1, 3, MOST_LANES])
def test_steps_are_those_of_the_plain_modules_in_float64(sizes, layer_norm, lanes, ran):
    """From the start, after a chunk, and where the context is cut: widths that are no multiple of a vector, too."""
    network = randomised(sizes, layer_norm)
    exact = copy.deepcopy(network).double()
    before, tokens = torch.randint(50, (sizes.context - 2, lanes)), torch.randint(50, (9, lanes))
    close(read(network, tokens)[0], read(exact, tokens)[0])
    with torch.no_grad():
        _, state = network(before)
        _, exact_state = exact(before)
    logits, state = read(network, tokens, state)
    expected, exact_state = read(exact, tokens, exact_state)
    assert ran == [lanes] * 18
    close(logits, expected)
    for ours, theirs in zip(state.layers, exact_state.layers):
        close(ours.hidden, theirs.hidden)
        close(ours.cell, theirs.cell)
        if ours.memory is not None:
            close(ours.memory.rows[:, -9:], theirs.memory.rows[:, -9:])  # what the steps wrote


def test_memory_in_many_blocks(ran):
    """As generation leaves it: several blocks, the first and the last in part."""
    network = randomised(SHARNNSizes(50, 16, 32, 2, (0, 1), 1, 1000))
    exact = copy.deepcopy(network).double()
    state = exact_state = None
    with torch.no_grad():
        for length in (300, 300, 300, 300, 250, 7):
            tokens = torch.randint(50, (length, 2))
            _, state = network(tokens, state)
            _, exact_state = exact(tokens, exact_state)
    assert len(state.layers[0].memory.segments) == 3
    tokens = torch.randint(50, (12, 2))
    close(read(network, tokens, state)[0], read(exact, tokens, exact_state)[0])
    assert len(ran) == 12


def test_vectors_that_are_not_collapsed_and_those_that_are():
    network, tokens = randomised(SHARNNSizes(50, 32, 64, 2, (1,), 1, 20)), torch.randint(50, (5, 2))
    whole = read(network, tokens)[0]
    network.collapse()
    assert torch.equal(read(network, tokens)[0], whole)
    with torch.no_grad():
        network.train()
        network.blocks[1].attention.value.gate += 1
        network.eval()
    assert not torch.equal(read(network, tokens)[0], whole)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_a_lane_depends_on_neither_lanes_nor_threads(kind):
    """To the last bit, with one memory of all lanes and with one of each: an encoder and its decoder rely on it."""
    network = randomised(SHARNNSizes(260, 144, 600, 3, (0, 2), 2, 700))
    if kind != "float32":
        network.narrow(kind)
    tokens = torch.randint(260, (30, MOST_LANES))
    with torch.no_grad():
        state = network(torch.randint(260, (600, MOST_LANES)))[1]
    every = torch.arange(MOST_LANES)  # of copies of the state, so that all memories lie in the same blocks
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(read(network, tokens, state.select(every))[0])
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    for lanes in ([3], [5, 0], [7, 3, 2], list(range(11))):
        some = torch.tensor(lanes)
        assert torch.equal(read(network, tokens[:, some], state.select(some))[0], found[0][:, some])
    apart = [state.select(torch.tensor([lane])) for lane in range(MOST_LANES)]
    layers = [
        LayerState(
            torch.cat([layer.hidden for layer in parts]),
            torch.cat([layer.cell for layer in parts]),
            None if parts[0].memory is None else LaneMemories(layer.memory for layer in parts),
        )
        for parts in zip(*(lane.layers for lane in apart))
    ]
    assert torch.equal(read(network, tokens, StreamState(tuple(layers)))[0], found[0])


def test_scores_of_any_size_are_survived(ran):
    """The running maximum: scores of hundreds, which grow and fall from part to part."""
    network = randomised(SHARNNSizes(50, 16, 32, 1, (0,), 1, 700))
    with torch.no_grad():
        network.blocks[0].ln_memory.weight.mul_(400)
        exact = copy.deepcopy(network).double()
        before, tokens = torch.randint(50, (600, 2)), torch.randint(50, (12, 2))
        state, exact_state = network(before)[1], exact(before)[1]
    close(read(network, tokens, state)[0], read(exact, tokens, exact_state)[0], 1e-3)
    assert len(ran) == 12


def test_a_state_continued_twice_keeps_both(ran):
    """Beams: each value of a memory has its own next row."""
    network = randomised(SHARNNSizes(50, 32, 64, 2, (0, 1), 1, 40))
    _, state = read(network, torch.randint(50, (20, 2)))
    one, two = torch.randint(50, (2, 6, 2))
    first = read(network, one, state)[0]
    second = read(network, two, state)[0]
    close(read(network, one, state)[0], first.double())
    close(read(network, two, state)[0], second.double())
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kind, error", [("bfloat16", 2**-8), ("int8", 0.5 / 127)])
def test_narrow_weights_are_near_and_chunks_use_the_same(kind, error, ran):
    network = randomised(SHARNNSizes(50, 64, 128, 2, (0,), 1, 40))
    weight = network.blocks[0].boom.expand.weight.detach().clone()
    tokens = torch.randint(50, (20, 3))
    exact = read(network, tokens)[0]
    network.narrow(kind)
    rounded = network.blocks[0].boom.expand.weight
    assert not rounded.requires_grad
    largest = weight.abs().amax(1, keepdim=True) if kind == "int8" else weight.abs()
    assert ((rounded - weight).abs() <= largest * error * 1.01).all() and not torch.equal(rounded, weight)
    steps = read(network, tokens)[0]
    assert (steps - exact).abs().max() < 0.1 * exact.abs().max()
    close(steps, read(copy.deepcopy(network).double(), tokens)[0])
    with torch.no_grad():
        close(steps, network.logits(network(tokens)[0]).double())
        read_as = {weight.dtype for weight in network._step_weights(torch.zeros(1, 1, 64), None)}
    assert len(ran) == 40 and read_as == {torch.float32, getattr(torch, kind)}


def test_training_and_loading_end_the_narrow_reading():
    network, tokens = randomised(SHARNNSizes(50, 32, 64, 2, (0,), 1, 40)), torch.randint(50, (6, 2))
    start, exact = copy.deepcopy(network.state_dict()), read(network, tokens)[0]
    network.narrow("int8")
    network.load_state_dict(start)
    assert torch.equal(read(network, tokens)[0], exact)
    network.narrow("int8")
    rounded = read(network.train().eval(), tokens)[0]  # the parameters keep the rounded values
    close(rounded, read(copy.deepcopy(network).double(), tokens)[0])
    assert not torch.equal(rounded, exact)


def test_rows_of_zeros_narrow_to_zeros():
    weight = torch.zeros(3, 4)
    weight[1] = torch.tensor([1.0, -2.0, 0.5, 0.0])
    matrix = narrowed(weight, "int8")
    assert matrix.rows.tolist() == [[0, 0, 0, 0], [64, -127, 32, 0], [0, 0, 0, 0]]
    assert torch.equal(matrix.widened()[0], torch.zeros(4))


def test_what_the_operator_does_not_know_takes_the_plain_path(ran):
    tokens = torch.randint(50, (3, 2))
    for sizes, change in (
        (SHARNNSizes(50, 32, 64, 2, (0,), 1, 40, feed_forward="full"), lambda network: network),
        (SHARNNSizes(50, 32, 64, 2, (0,), 1, 40), lambda network: network.bfloat16()),
    ):
        logits, _ = read(change(randomised(sizes)), tokens)
        assert logits.isfinite().all()
    network = randomised(SHARNNSizes(50, 32, 64, 2, (0,), 1, 40))
    read(network, torch.randint(50, (2, MOST_LANES + 1)))
    network(tokens[:1])  # with gradient
    with torch.no_grad():
        network.train()(tokens[:1])
    assert not ran


def test_what_is_not_a_number_stays_so():
    network = randomised(SHARNNSizes(50, 32, 64, 2, (0, 1), 1, 40))
    with torch.no_grad():
        network.embed.weight[7, 3] = float("nan")
    logits, state = read(network, torch.tensor([[1, 7]]))
    assert logits[:, 0, :7].isfinite().all() and logits[:, 1].isnan().all()
    assert state.layers[1].memory.rows[1].isnan().all()


@pytest.mark.parametrize("lanes, width, vocabulary", [(1, 32, 260), (5, 36, 7), (MOST_LANES, 130, 50)])
def test_projection_of_each_lane_by_itself(lanes, width, vocabulary):
    x, weight, bias = torch.randn(1, lanes, width), torch.randn(vocabulary, width), torch.randn(vocabulary)
    with torch.no_grad():
        found = project(x, weight, bias)
        close(found, x.double() @ weight.double().t() + bias.double())
        assert torch.equal(torch.cat([project(lane, weight, bias) for lane in x.split(1, 1)], 1), found)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda given: given[1].pop(), "weights are missing"),
        (lambda given: given[1].append(torch.zeros(1)), "more weights"),
        (lambda given: given[1].__setitem__(2, torch.zeros(64, 15)), r"a weight must be \[64, 16\]"),
        (lambda given: given[1].__setitem__(0, torch.zeros(15)), r"a vector must be \[16\]"),
        (lambda given: given[3].pop(), "a hidden and a cell state"),
        (lambda given: given[3].__setitem__(0, torch.zeros(3, 16)), r"must be \[B, D\]"),
        (lambda given: given[4].pop(), "blocks of memory are missing"),
        (lambda given: given[4].__setitem__(0, torch.zeros(2, 4, 15)), "blocks must be"),
        (lambda given: given[5].pop(), "each block needs two places"),
        (lambda given: given[5].append(0), "more weights, counts or spans"),
        (lambda given: given[5].__setitem__(0, -1), "spans must lie within"),
        (lambda given: given[5].__setitem__(1, 10_000), "blocks must be"),
        (lambda given: given[6].pop(), "counts are missing"),
        (lambda given: given[6].append(0), "more weights, counts or spans"),
        (lambda given: given.__setitem__(7, 3), "heads divide"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, message, monkeypatch):
    caught = []
    monkeypatch.setattr(kernels.ops, "step", lambda *given: caught.append(given) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        read(randomised(SHARNNSizes(50, 16, 32, 1, (0,), 1, 40)), torch.zeros(1, 2, dtype=torch.int64))
    monkeypatch.undo()
    given = [list(value) if isinstance(value, (list, tuple)) else value for value in caught[0]]
    change(given)
    with torch.no_grad(), pytest.raises(RuntimeError, match=message):
        kernels.ops.step(*given)
