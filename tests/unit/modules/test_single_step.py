"""What a single step takes of the blocks and of the memory: gathered once, but never out of date."""

import copy

import pytest
import torch
from torch import nn

from fairseq_sharnn.modules.memory import Memory, empty_memory
from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNSizes
from fairseq_sharnn.ops import kernels
from tests.unit.ops.oracle import close, needs_kernels
from tests.unit.ops.stepping import randomised, read

SIZES = SHARNNSizes(50, 32, 64, 2, (0, 1), 1, 40)


@pytest.fixture
def calls(monkeypatch):
    """The weights that each call of the operator had."""
    found = []
    run = kernels.ops.step
    monkeypatch.setattr(
        kernels.ops, "step", lambda h, weights, *given: found.append(weights) or run(h, weights, *given)
    )
    return found


def in_place(network: SHARNN) -> None:
    with torch.no_grad():
        network.blocks[0].boom.expand.weight.add_(1)


def new_parameter(network: SHARNN) -> None:
    norm = network.blocks[1].ln_boom_input
    norm.weight = nn.Parameter(norm.weight + 1)


def new_module(network: SHARNN) -> None:
    network.blocks[0].attention.query = nn.Linear(32, 32)


def new_lstm(network: SHARNN) -> None:
    network.blocks[1].lstm = nn.LSTM(32, 32)


def new_block(network: SHARNN) -> None:
    network.blocks[1] = copy.deepcopy(network.blocks[0])


def assigned(network: SHARNN) -> None:
    network.load_state_dict({name: value + 0.1 for name, value in network.state_dict().items()}, assign=True)


def loaded(network: SHARNN) -> None:
    network.load_state_dict({name: value + 0.1 for name, value in network.state_dict().items()})
    network.collapse()


def moved_there_and_back(network: SHARNN) -> None:
    network.double()
    for parameter in network.parameters():
        parameter.data.mul_(1.5)
    network.float()


def optimized(network: SHARNN) -> None:
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    network.collapse()


def collapsed_anew(network: SHARNN) -> None:
    with torch.no_grad():
        network.blocks[0].attention.value.gate.add_(3)
    network.collapse()


CHANGES = [in_place, new_parameter, new_module, new_lstm, new_block, assigned, loaded]
CHANGES += [moved_there_and_back, optimized, collapsed_anew]


@needs_kernels
@pytest.mark.parametrize("change", CHANGES)
def test_steps_after_a_change_read_what_is_there(change, calls):
    """Weights are gathered once: a copy of the network, which has gathered nothing, must compute the same."""
    network, tokens = randomised(SIZES), torch.randint(50, (6, 2))
    network.collapse()
    before = read(network, tokens)[0]
    change(network)
    after = read(network, tokens)[0]
    assert not torch.equal(after, before)
    assert torch.equal(read(copy.deepcopy(network), tokens)[0], after)
    close(after, read(copy.deepcopy(network).double(), tokens)[0])
    assert len(calls) == 18


@needs_kernels
def test_a_part_that_is_exchanged_for_another_kind_takes_the_plain_path(calls):
    network, tokens = randomised(SHARNNSizes(50, 32, 64, 2, (0,), 1, 40)), torch.randint(50, (3, 2))
    network.collapse()
    read(network, tokens)
    network.blocks[1].boom = nn.Identity()
    read(network, tokens)
    assert len(calls) == 3


@needs_kernels
def test_weights_are_gathered_once_if_nothing_is_computed(calls):
    network, tokens = randomised(SIZES), torch.randint(50, (3, 2))
    read(network, tokens)
    assert calls[0] is not calls[2]  # the vectors are not collapsed
    network.collapse()
    read(network, tokens)
    assert calls[3] is calls[5]
    network.narrow("int8")
    read(network, tokens)
    assert calls[6] is calls[8] and calls[6] is not calls[3]


@pytest.mark.parametrize("context", [1, 5, 40, 700])
def test_room_for_a_row_is_where_extended_puts_it(context):
    """Also where another value has continued from the same rows."""
    memory = expected = empty_memory(2, 3, torch.zeros(()))
    for number in range(60):
        row = torch.randn(2, 1, 3)
        if number % 7 == 3:
            memory.with_room(row, context)  # a second value takes the next place in the block
        memory, expected = memory.with_room(row, context), expected.extended(row, context)
        memory.segments[-1][:, -1:] = row  # as the step writes it
        assert torch.equal(memory.rows, expected.rows) and len(memory) == len(expected)
        blocks, spans = memory.spans
        pieces = [block[:, start:stop] for block, start, stop in zip(blocks, spans[::2], spans[1::2])]
        assert torch.equal(torch.cat(pieces, 1), expected.rows)


def test_room_is_refused_for_other_lanes_and_in_another_type_it_is_extended():
    memory = Memory.from_rows(torch.zeros(2, 3, 4)).with_room(torch.ones(2, 1, 4), 10)
    with pytest.raises(ValueError, match="memory of 2 lanes"):
        memory.with_room(torch.zeros(3, 1, 4), 10)
    assert memory.with_room(torch.ones(2, 1, 4).half(), 10).rows.dtype == torch.float16
