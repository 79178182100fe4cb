"""Stop anywhere, resume with any number of workers, lanes and chunk lengths: what is read, without any model."""

import copy
import gc
import threading
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary
from fairseq_sharnn.data.corpora.bytes import ByteCorpus
from fairseq_sharnn.data.streams import iterator
from fairseq_sharnn.data.streams.ahead import made_ahead
from fairseq_sharnn.data.streams.plan import TrainingPlan
from fairseq_sharnn.data.streams.training import TrainingStream
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.modules.memory import Memory
from fairseq_sharnn.modules.stream_state import LayerState, StreamState

DICTIONARY = ByteDictionary()
PAD = DICTIONARY.pad()
configurations = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 30), st.booleans())


def stream(corpus, workers, rank, lanes, length, jitter, warmup=25, keep_state=True, seed=1) -> TrainingStream:
    def plan_of(epoch):
        whole = ((0, len(corpus)),)
        seeds = (seed, epoch) if jitter else None
        return TrainingPlan(whole, workers * lanes, length, seeds, 0, len(corpus), corpus.fingerprint())

    mine = slice(rank * lanes, (rank + 1) * lanes)
    return TrainingStream(corpus, DICTIONARY, plan_of, mine, warmup, keep_state, 1, 0)


def reader(corpus, configuration):
    """One stream for each worker, and a function that reads up to n chunks of all of them: {lane: bytes}."""
    workers, lanes, length, jitter = configuration
    return [stream(corpus, workers, rank, lanes, length, jitter) for rank in range(workers)]


def read(iterators, chunks=None):
    """Bytes read by lane, in order; workers must agree on the number and the width of chunks."""
    lanes, widths = {}, []
    for itr in iterators:
        width = []
        while itr.has_next() and (chunks is None or len(width) < chunks):
            sample = next(itr)
            width.append(sample["target"].size(1))
            for lane, target in zip(sample["id"].tolist(), sample["target"]):
                lanes.setdefault(lane, b"")
                lanes[lane] += DICTIONARY.decode_bytes(target[target != PAD])
        widths.append(width)
    assert all(width == widths[0] for width in widths)
    return lanes


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(13, 256), before=configurations, after=configurations, stop=st.floats(0, 1), data=st.data())
def test_a_resumed_epoch_reads_what_the_whole_one_reads(tmp_path, size, before, after, stop, data):
    """Each byte value stands once in the corpus, so bytes are places."""
    if data.draw(st.booleans(), label="same configuration"):
        after = before
    (tmp_path / "train").write_bytes(bytes(range(size)) if size < 256 else bytes(range(256)))
    corpus = ByteCorpus(str(tmp_path / "train"))
    whole = read([worker.next_epoch_itr() for worker in reader(corpus, before)])

    workers = reader(corpus, before)
    itrs = [worker.next_epoch_itr() for worker in workers]
    chunks = int(stop * len(itrs[0]))
    first = read(itrs, chunks)
    state = copy.deepcopy(workers[0].state_dict())
    resumed = reader(corpus, after)
    for worker in resumed:
        worker.load_state_dict(state)
    if chunks == len(itrs[0]) or resumed[0].epoch == 2:
        assert all(worker.next_epoch_idx == 2 for worker in resumed)
        assert sum(map(len, first.values())) == sum(map(len, whole.values()))
        return
    rest = read([worker.next_epoch_itr() for worker in resumed])
    if after == before:
        joined = {lane: first.get(lane, b"") + rest.get(lane, b"") for lane in whole}
        assert joined == whole
    elif chunks > 0:
        everything = b"".join(first.values()) + b"".join(rest.values())
        assert sorted(everything) == sorted(b"".join(whole.values()))
        assert all(list(lane) == sorted(lane) for lane in rest.values()), "each lane reads forward"


def test_chunks_made_ahead_are_the_same_and_resume_exactly(tmp_path, monkeypatch):
    """As on a GPU, but not pinned: stopped after any chunk, what was made ahead and not read is read after the resume."""
    (tmp_path / "train").write_bytes(bytes(range(250)))
    corpus, configuration = ByteCorpus(str(tmp_path / "train")), (2, 2, 6, True)
    whole = read([worker.next_epoch_itr() for worker in reader(corpus, configuration)])
    monkeypatch.setattr(iterator, "feeds_gpu", lambda: True)
    monkeypatch.setattr(torch.utils.data, "DataLoader", partial(unpinned, torch.utils.data.DataLoader))
    threads = threading.active_count()
    for stop in range(8):
        workers = reader(corpus, configuration)
        itrs = [worker.next_epoch_itr() for worker in workers]
        first = read(itrs, stop)
        assert threading.active_count() == threads + (len(itrs) if stop else 0)
        state = copy.deepcopy(workers[0].state_dict())
        resumed = reader(corpus, configuration)
        for worker in resumed:
            worker.load_state_dict(state)
        rest = read([worker.next_epoch_itr() for worker in resumed])
        assert {lane: first.get(lane, b"") + rest[lane] for lane in whole} == whole
        del itrs, workers, resumed, worker
        gc.collect()
        assert threading.active_count() == threads, "a thread ends with its pass"


def unpinned(loader, *arguments, pin_memory, **options):
    assert pin_memory
    return loader(*arguments, **options)


def test_an_error_in_the_thread_comes_where_its_chunk_would():
    def items():
        yield 1
        raise UsageError("train: cannot be read")

    made = made_ahead(items())
    assert next(made) == 1
    with pytest.raises(UsageError, match="cannot be read"):
        next(made)
    assert list(made_ahead(range(5))) == [0, 1, 2, 3, 4]


def test_plans_keep_the_names_that_checkpoints_have_always_had():
    """A checkpoint of any version of the package resumes, and an older version resumes those of this one."""
    saved = {"ranges": [[0, 50], [90, 120]], "lanes": 2, "length": 10, "seed": [1, 2], "lead": 7}
    saved.update({"size": 120, "fingerprint": "abc"})
    plan = TrainingPlan.from_dict(saved)
    assert plan == TrainingPlan(((0, 50), (90, 120)), 2, 10, (1, 2), 7, 120, "abc")
    assert plan.warmup == 7 and plan.to_dict() == saved
    assert plan.lane_plan.scored.tolist() == [40, 40] and plan.ends[-1] == 40, "what is computed is not saved"
    assert plan.to_dict() == saved


def test_lanes_are_rebuilt_from_the_bytes_just_before(tmp_path):
    (tmp_path / "train").write_bytes(bytes(range(200)))
    corpus = ByteCorpus(str(tmp_path / "train"))
    old = stream(corpus, 1, 0, 2, 10, False)
    read([old.next_epoch_itr()], 4)  # lanes at 40 and 140
    state = {**old.state_dict(), "epoch": 1}
    new = stream(corpus, 1, 0, 3, 8, False, warmup=25)
    new.load_state_dict(state)
    itr = new.next_epoch_itr()
    sample = next(itr)
    starts = [DICTIONARY.decode_bytes(target)[0] for target in sample["target"]]
    assert starts == [40, 80, 160]  # 60 + 60 unread bytes, cut into three
    assert not sample["net_input"]["stream"].fresh
    inputs = torch.cat(list(new.carrier.inputs_to_rebuild(0)), dim=1)
    for lane, start in zip(inputs, starts):
        assert DICTIONARY.decode_bytes(lane) == bytes(range(start - 26, start - 1))


def test_state_goes_to_the_checkpoint_and_to_the_lanes_it_belongs_to(tmp_path):
    (tmp_path / "train").write_bytes(bytes(range(200)))
    corpus = ByteCorpus(str(tmp_path / "train"))
    old = stream(corpus, 1, 0, 4, 10, True)
    itr = old.next_epoch_itr()
    next(itr)

    class Model:
        def restore_stream_state(self, saved):
            return StreamState.from_dict(saved, torch.device("cpu"))

    hidden = torch.randn(4, 3)
    memory = Memory.from_rows(torch.randn(4, 5, 3, dtype=torch.float16))
    old.carrier.keep(Model(), 1, None)
    model = Model()
    old.carrier.keep(model, 1, StreamState((LayerState(hidden, hidden + 1, memory),)))
    old.gather_state(1, 0, None)
    saved = old.state_dict()
    torch.save(saved, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    for rank in range(2):  # one worker with four lanes resumes as two with two
        new = stream(corpus, 2, rank, 2, 10, True)
        new.load_state_dict(saved)
        (layer,) = new.carrier.before(Model(), 1).layers
        assert torch.equal(layer.hidden, hidden[rank * 2 : rank * 2 + 2])
        assert torch.equal(layer.memory.rows, memory.rows[rank * 2 : rank * 2 + 2])
        assert layer.memory.rows.dtype == torch.float16
    without = stream(corpus, 1, 0, 4, 10, True, keep_state=False)
    next(without.next_epoch_itr())
    without.gather_state(1, 0, None)
    assert without.state_dict()["stream"]["state"] is None


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"y" + data[1:]])
def test_a_corpus_that_changed_is_refused(tmp_path, change):
    (tmp_path / "train").write_bytes(bytes(range(200)))
    old = stream(ByteCorpus(str(tmp_path / "train")), 1, 0, 2, 10, True)
    next(old.next_epoch_itr())
    state = old.state_dict()
    (tmp_path / "train").write_bytes(change(bytes(range(200))))
    with pytest.raises(UsageError, match="train has changed since the checkpoint was written"):
        stream(ByteCorpus(str(tmp_path / "train")), 1, 0, 2, 10, True).load_state_dict(state)
