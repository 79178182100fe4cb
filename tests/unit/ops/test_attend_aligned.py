"""Attention and memory of accelerators, forced on: on CPU in float64 against the present path, on meta by shape."""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, List

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from fairseq_sharnn.data.streams.lanes import chunk_ends
from fairseq_sharnn.modules.memory import Memory, empty_memory
from fairseq_sharnn.ops import attend as attend_module
from fairseq_sharnn.ops import attend_aligned
from fairseq_sharnn.ops.attend import attend
from tests.unit.counted import Moved

LANES, WIDTH, CONTEXT = 2, 16, 41
CPU = torch.device("cpu")


@contextmanager
def aligned(on: bool):
    """Take the path of accelerators, or not, on every device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attend_module, "is_aligned", lambda device: on)
        yield


@dataclass
class Side:
    """One of the two paths, with the memory after each chunk so far."""

    on: bool
    memories: List[Memory]

    def run(self, before: int, x: torch.Tensor, heads: int, rate: float = 0.0):
        """Attend from a chunk [B, T, D] after memory number `before`; the output and both gradients."""
        query, chunk = (x.flip(axis).clone().requires_grad_() for axis in (0, 1))
        with aligned(self.on):
            memory = self.memories[before].extended(chunk, CONTEXT)
            rows, unseen = memory.to_attend()
            out = attend(query, chunk, rows, heads, rate, unseen)
            grads = torch.autograd.grad(out.sin().sum(), (query, chunk))
        self.memories.append(memory.last(CONTEXT))
        return out, *grads

    def change(self, number: int, change) -> None:
        with aligned(self.on):
            self.memories.append(change(self.memories[number]))


def resumed(memory: Memory) -> Memory:
    return Memory.from_dict(memory.to_dict(), CPU)


def other_beams(memory: Memory) -> Memory:
    return memory.map(lambda rows: rows.index_select(0, torch.tensor([1, 0])))


def both() -> List[Side]:
    start = empty_memory(LANES, WIDTH, torch.zeros((), dtype=torch.float64))
    return [Side(False, [start]), Side(True, [start])]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 50), st.sampled_from(["next", "next", "again", "older"])), min_size=3, max_size=12
    ),
    st.sampled_from([1, 2]),
    st.data(),
)
def test_equals_the_present_path(steps, heads, data):
    """Chunks of any length, run twice, from an older state (a second beam), after a resume and with other lanes."""
    torch.manual_seed(len(steps))
    sides = both()
    for length, step in steps:
        newest = len(sides[0].memories) - 1
        before = newest if step != "older" else data.draw(st.integers(0, newest))
        change = data.draw(st.sampled_from([None, None, resumed, other_beams]))
        if change is not None:
            for side in sides:
                side.change(before, change)
            before = newest + 1
        x = torch.randn(LANES, length, WIDTH, dtype=torch.float64)
        for _ in range(2 if step == "again" else 1):
            present, ours = (side.run(before, x, heads) for side in sides)
            for mine, theirs in zip(ours, present):
                assert (mine - theirs).abs().max() < 1e-12
    for mine, theirs in zip(sides[1].memories, sides[0].memories):  # later chunks have changed no older value
        assert torch.equal(mine.rows, theirs.rows)


@pytest.mark.parametrize("heads", [1, 2])
def test_dropout_is_that_of_the_present_path(monkeypatch, heads):
    """The masks that were drawn, replayed by the present path; the columns that round up have no part in it."""
    torch.manual_seed(3)
    present, ours = both()
    drawn: List[torch.Tensor] = []

    def recorded(x: torch.Tensor, rate: float):
        dropped, mask = torch.native_dropout(x, rate, True)
        drawn.append(mask)
        return dropped, mask

    masks: Any = None
    monkeypatch.setattr(attend_aligned, "drop", recorded)
    monkeypatch.setattr(attend_module, "_CPU_GROUP_SCORES", 1 << 30)
    monkeypatch.setattr(attend_module, "keep_mask", lambda shape, rate, device: next(masks))
    for length in (13, 20, 5, 30, 41, 3):
        drawn.clear()
        x = torch.randn(LANES, length, WIDTH, dtype=torch.float64)
        mine = ours.run(-1, x, heads, 0.25)
        seen = min(len(ours.memories[-1]), CONTEXT)
        values, *weights = drawn
        assert values.size(1) % 8 == 0 and values.size(1) - seen < 8
        masks = iter([values[:, -seen:], *(mask[:, :, -seen:] for mask in weights)])
        for each, theirs in zip(mine, present.run(-1, x, heads, 0.25)):
            assert (each - theirs).abs().max() < 1e-12


def test_a_block_from_elsewhere_is_taken_over():
    """Rows that were saved on CPU in several blocks, and in another type, continue in one block; the old value stays."""
    memory = empty_memory(LANES, WIDTH, torch.zeros(()))
    for number in range(300):
        memory = memory.extended(torch.full((LANES, 2, WIDTH), float(number)), 590).last(590)
    assert len(memory.segments) > 1
    with aligned(True):
        half = memory.extended(torch.zeros(LANES, 3, WIDTH, dtype=torch.float16), 590)
        (piece,), unseen = half.to_attend()
        assert piece.size(1) == 592 and unseen == 2 and piece.isfinite().all()
        assert torch.equal(half.rows[:, :-3].float(), memory.rows[:, 3:])
        again = resumed(half).extended(torch.ones(LANES, 1, WIDTH, dtype=torch.float16), 590)
        assert len(again.segments) == 1 and again.to_attend()[0][0].isfinite().all()


class Products(TorchDispatchMode):
    """Counts the batched products, and those with an operand that does not start or end at a multiple of 8."""

    def __init__(self):
        super().__init__()
        self.count, self.misaligned = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if "bmm" in func.__name__:
            self.count += 1
            left, right = args[-2:]
            # along the sum, an operand whose numbers lie next to each other is loaded in steps of 8
            sum_is_odd = left.size(2) % 8 and (left.stride(2) == 1 or right.stride(1) == 1)
            self.misaligned += bool(sum_is_odd or any(not starts_at_8(each) for each in (left, right, out)))
        return out


def starts_at_8(x: torch.Tensor) -> bool:
    """Whether each matrix of a batch, and each of its rows (or columns), starts at a multiple of 8 numbers."""
    strides = sorted(x.stride()[1:])
    extent = x.size(2) if x.stride(2) == 1 else x.size(1)
    return x.storage_offset() % 8 == 0 and x.stride(0) % 8 == 0 and strides[1] % 8 == 0 and extent % 8 == 0


@pytest.mark.parametrize("on, chunks", [(True, 500), (False, 80)])
def test_no_product_is_misaligned_over_500_jittered_chunks(on, chunks):
    """The paper's size and jitter, forward and backward, by shape only. The present path shows that the count can fail."""
    ends = chunk_ends(5_600_000, 1024, (1, 1))[:chunks]
    memory = empty_memory(16, 1024, torch.zeros((), dtype=torch.float16, device="meta"))
    most_blocks = 0
    with aligned(on), Products() as products:
        for length in np.diff(ends, prepend=0):
            query, chunk = (
                torch.empty(int(length), 16, 1024, dtype=torch.float16, device="meta", requires_grad=True).transpose(
                    0, 1
                )
                for _ in range(2)
            )
            memory = memory.extended(chunk, 5000)
            rows, unseen = memory.to_attend()
            attend_module._in_one_type(query, chunk, rows, 1, 0.1, unseen).sum().backward()  # meta has no autocast
            memory = memory.last(5000)
            most_blocks = max(most_blocks, len(memory.segments))
    if on:
        assert (products.count, products.misaligned, most_blocks) == (chunks * 6, 0, 1)
    else:
        assert products.misaligned > chunks * 6 and most_blocks == 6


def test_half_of_the_bytes_is_moved_at_the_papers_size():
    """By shape only: fp16, 16 lanes, dropout, a full memory in five pieces and in one."""
    moved = {}
    for pieces in (5, 1):
        rows, query, chunk = (
            torch.empty(16, count, 1024, dtype=torch.float16, device="meta") for count in (5000, 1024, 1024)
        )
        segments = list(rows.split([904, *[1024] * 4], dim=1)) if pieces == 5 else [rows]
        with aligned(pieces == 1), Moved() as counted:
            leaves = query.requires_grad_(), chunk.requires_grad_()
            attend_module._in_one_type(*leaves, segments, 1, 0.1, 0).backward(torch.empty_like(query))
        moved[pieces] = counted.bytes
    assert moved[1] < 2.8e9 and moved[5] > 5.2e9


def test_autocast_and_the_path_are_chosen_together():
    """Under autocast the products are in its type; on CPU, unforced, this path is never taken."""
    assert attend_module.is_aligned(torch.device("cuda")) and not attend_module.is_aligned(CPU)
    query, chunk = (torch.randn(LANES, 5, WIDTH, requires_grad=True) for _ in range(2))
    rows = torch.cat([torch.randn(LANES, 11, WIDTH), chunk.detach()], dim=1)
    with aligned(True), torch.autocast("cpu", torch.bfloat16):
        out = attend(query, chunk, [rows], 1, 0.2)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert query.grad.dtype == chunk.grad.dtype == torch.float32 and chunk.grad.isfinite().all()
