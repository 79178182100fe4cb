import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_sharnn.data.streams.lanes import (
    EXHAUSTED,
    chunk_ends,
    evaluation_lanes,
    jittered_chunks,
    merge_ranges,
    remaining_lanes,
    training_lanes,
)

sizes = st.integers(1, 400)


@settings(max_examples=300, deadline=None)
@given(
    total=sizes,
    lanes=st.integers(1, 20),
    warmup=st.integers(0, 450),
    length=st.integers(1, 60),
    workers=st.integers(1, 3),
)
def test_evaluation_scores_every_byte_once_in_order_after_its_warmup(total, lanes, warmup, length, workers):
    plan = evaluation_lanes(total, lanes * workers, warmup)
    seen = []
    reads = {}
    start = 0
    for end in chunk_ends(plan.columns, length, None):
        for worker in range(workers):
            mine = slice(worker * lanes, (worker + 1) * lanes)
            position, scored = plan.targets(mine, start, int(end))
            assert position.shape == (lanes, end - start)
            for lane in range(lanes):
                reads.setdefault((worker, lane), []).extend(zip(position[lane], scored[lane]))
        start = int(end)
    first_scored = True
    for lane in sorted(reads):
        read = [(p, s) for p, s in reads[lane] if p != EXHAUSTED]
        assert all(p == EXHAUSTED and not s for p, s in reads[lane][len(read) :]), "padding is at the end only"
        assert [p for p, _ in read] == list(range(read[0][0], read[0][0] + len(read))) if read else True
        warm = [p for p, s in read if not s]
        scored = [p for p, s in read if s]
        assert [p for p, _ in read] == warm + scored, "warm-up comes first"
        if scored:
            assert len(warm) == (0 if first_scored else min(warmup, total))
            first_scored = False
        seen += scored
    assert seen == list(range(total))


@settings(max_examples=200, deadline=None)
@given(total=sizes, lanes=st.integers(1, 20), length=st.integers(1, 60), seed=st.integers(0, 99))
def test_training_reads_consecutive_runs_and_leaves_out_less_than_a_byte_per_lane(total, lanes, length, seed):
    if total < lanes:
        return
    plan = training_lanes(total, lanes)
    ends = chunk_ends(plan.columns, length, (seed, 1))
    columns = np.concatenate([plan.targets(slice(None), a, b)[0] for a, b in zip([0, *ends[:-1]], ends)], axis=1)
    run = total // lanes
    assert np.array_equal(columns, np.arange(run)[None, :] + run * np.arange(lanes)[:, None])
    assert total - columns.size < lanes


@settings(max_examples=200, deadline=None)
@given(columns=st.integers(1, 5000), length=st.integers(1, 300), seed=st.integers(0, 99))
def test_chunks_cover_the_columns(columns, length, seed):
    for ends in (chunk_ends(columns, length, None), chunk_ends(columns, length, (seed, 3))):
        lengths = np.diff(np.concatenate([[0], ends]))
        assert ends[-1] == columns and (lengths > 0).all() and (lengths <= length).all()
        assert (lengths[:-1] >= min(5, length)).all()
    fixed = chunk_ends(columns, length, None)
    assert (np.diff(np.concatenate([[0], fixed]))[:-1] == length).all() and fixed[-1] == columns


def test_chunk_lengths_are_distributed_as_published():
    ends = jittered_chunks(4_000_000, 200, np.random.default_rng(0))
    lengths = np.diff(np.concatenate([[0], ends]))[:-1]  # the last one takes what is left
    halves = lengths < 150
    assert halves.mean() == pytest.approx(0.05, abs=0.005)
    assert lengths[halves].mean() == pytest.approx(99.5, abs=0.3)  # truncated towards zero
    assert lengths[halves].std() == pytest.approx(5, abs=0.4)
    assert (lengths[~halves] == 200).mean() == pytest.approx(0.5, abs=0.02)  # cut at T
    assert lengths.max() == 200


def test_chunk_lengths_follow_seed_and_epoch_alone():
    first = chunk_ends(9000, 64, (1, 1))
    assert np.array_equal(first, chunk_ends(9000, 64, (1, 1)))
    assert not np.array_equal(first, chunk_ends(9000, 64, (1, 2)))
    assert not np.array_equal(first, chunk_ends(9000, 64, (2, 1)))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_unread_can_be_cut_into_other_lanes(data):
    """Stop anywhere, cut the rest into other lanes, again and again: every byte is read once."""
    total = data.draw(st.integers(20, 300))
    plan = training_lanes(total, data.draw(st.integers(1, 6)))
    everything = plan.columns * plan.lanes
    read = []
    for _ in range(4):
        stop = data.draw(st.integers(0, plan.columns))
        position, scored = plan.targets(slice(None), 0, stop)
        read += position[scored].tolist()
        left = plan.unread(stop)
        size = int((left[:, 1] - left[:, 0]).sum())
        lanes = data.draw(st.integers(1, 6))
        if size == 0:
            break
        warmup = data.draw(st.integers(0, int(left[0, 0])))
        plan = remaining_lanes(left, lanes, warmup)
    else:
        position, scored = plan.targets(slice(None), 0, plan.columns)
        read += position[scored].tolist()
        warm = position[~scored & (position != EXHAUSTED)]
        assert ((warm >= 0) & (warm < total)).all()
    assert sorted(read) == list(range(everything))


def test_warmup_is_the_bytes_just_before():
    plan = remaining_lanes([[5, 8], [20, 25]], 2, warmup=3)
    position, scored = plan.targets(slice(None), 0, plan.columns)
    assert position.tolist() == [[2, 3, 4, 5, 6, 7, 20], [18, 19, 20, 21, 22, 23, 24]]
    assert scored.tolist() == [[False] * 3 + [True] * 4] * 2


def test_ranges_merge():
    assert merge_ranges([(5, 7), (0, 2), (2, 3)]).tolist() == [[0, 3], [5, 7]]
    assert merge_ranges([]).shape == (0, 2)
