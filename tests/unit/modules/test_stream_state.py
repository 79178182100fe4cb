import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_sharnn.modules.memory import Memory, empty_memory
from fairseq_sharnn.modules.stream_state import LayerState, StreamState


def rows(number: int, start: int) -> torch.Tensor:
    """[2, number, 3] with a different value in every row."""
    values = torch.arange(start, start + number, dtype=torch.float64)
    return values[None, :, None] + torch.tensor([0.0, 1000.0])[:, None, None] + torch.zeros(2, number, 3)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 20), st.data())
def test_memory_is_concatenation_and_cut(lengths, context, data):
    """Whatever the buffer does: rows are those of cat and slice, and older values never change."""
    memory, expected = empty_memory(2, 3, rows(1, 0)), rows(0, 0)
    versions, start = [(memory, expected)], 0
    for length in lengths:
        if data.draw(st.booleans(), label="go back to an older state"):
            memory, expected = versions[data.draw(st.integers(0, len(versions) - 1))]
        chunk = rows(length, start)
        start += length
        kept = max(0, context - length)
        expected = torch.cat([expected[:, max(0, expected.size(1) - kept) :], chunk], dim=1)
        memory = memory.extended(chunk, context)
        assert torch.equal(memory.rows, expected)
        memory, expected = memory.last(context), expected[:, max(0, expected.size(1) - context) :]
        assert len(memory) == expected.size(1) <= context
        versions.append((memory, expected))
    for old, old_rows in versions:
        assert torch.equal(old.rows, old_rows)


def test_memory_writes_each_row_once_while_there_is_room():
    memory = empty_memory(1, 2, torch.zeros(1)).extended(torch.zeros(1, 4, 2), 100)
    buffer = memory.rows.data_ptr()
    grown = memory.extended(torch.ones(1, 4, 2), 100)
    assert grown.rows.data_ptr() == buffer


def test_memory_in_another_type_continues_in_it():
    """A run that continues in half precision, or again in float32."""
    memory = Memory.from_rows(rows(5, 0).float())
    half = memory.extended(rows(3, 5).half(), 100)
    assert all(segment.dtype == torch.float16 for segment in half.segments)
    assert torch.equal(half.rows.double(), rows(8, 0).half().double())
    assert torch.equal(memory.extended(rows(2, 5).float(), 100).rows.double(), rows(7, 0))
    assert torch.equal(memory.rows.double(), rows(5, 0))


def test_saved_memory_continues_where_its_rows_lay():
    memory = empty_memory(2, 3, rows(1, 0))
    for start in range(0, 1200, 100):
        memory = memory.extended(rows(100, start), 900)
    loaded = Memory.from_dict(memory.to_dict(), torch.device("cpu"))
    old_form = {"rows": memory.rows, "start": 3, "capacity": 2000}
    for again in (loaded, Memory.from_dict(old_form, torch.device("cpu"))):
        assert torch.equal(again.rows, memory.rows)
    grown, expected = loaded.extended(rows(300, 1200), 900), memory.extended(rows(300, 1200), 900)
    assert [s.shape for s in grown.segments] == [s.shape for s in expected.segments]
    assert torch.equal(grown.rows, expected.rows)
    assert len(expected.segments) > 2


def test_memory_carries_no_gradient():
    chunk = torch.randn(2, 3, 4, requires_grad=True)
    assert not empty_memory(2, 4, chunk.detach()).extended(chunk, 10).rows.requires_grad


def test_memory_refuses_other_lanes_and_widths():
    memory = Memory.from_rows(torch.zeros(2, 5, 4))
    with pytest.raises(ValueError, match="2 lanes x 4 columns cannot take a chunk of 3 lanes x 4"):
        memory.extended(torch.zeros(3, 1, 4), 10)


def test_state_selects_lanes_and_casts():
    hidden = torch.arange(6.0).view(3, 2)
    state = StreamState(
        (LayerState(hidden, hidden + 10, Memory.from_rows(hidden[:, None, :])), LayerState(hidden, hidden))
    )
    chosen = state.select(torch.tensor([2, 0])).to(torch.float64)
    assert chosen.lanes == 2
    assert torch.equal(chosen.layers[0].cell, torch.tensor([[14.0, 15.0], [10.0, 11.0]], dtype=torch.float64))
    assert torch.equal(chosen.layers[0].memory.rows[:, 0], hidden[[2, 0]].double())
    assert chosen.layers[1].memory is None
