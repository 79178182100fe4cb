"""From bytes on disk to samples: streams and blocks, any bytes, lanes, chunk lengths and workers."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairseq_sharnn.data.blocks import BlockBatches, BlockDataset, BlockIterator, order_of_blocks
from fairseq_sharnn.data.corpora.base import split_path
from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary
from fairseq_sharnn.data.corpora.bytes import ByteCorpus
from fairseq_sharnn.data.streams.carrier import StreamCarrier
from fairseq_sharnn.data.streams.dataset import StreamDataset
from fairseq_sharnn.data.streams.iterator import StreamIterator
from fairseq_sharnn.data.streams.lanes import chunk_ends, evaluation_lanes, training_lanes
from fairseq_sharnn.data.streams.opening import TrainingOptions, Worker, training_stream
from fairseq_sharnn.errors import UsageError

DICTIONARY = ByteDictionary()
EOS, PAD = DICTIONARY.eos(), DICTIONARY.pad()
any_bytes = st.binary(min_size=1, max_size=300)
fixture_is_fine = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def corpus_of(folder, data: bytes) -> ByteCorpus:
    (folder / "split").write_bytes(data)
    return ByteCorpus(str(folder / "split"))


def streams(corpus, plan, length, lanes, seed=None):
    return StreamDataset(corpus, DICTIONARY, plan, chunk_ends(plan.columns, length, seed), lanes)


@fixture_is_fine
@given(any_bytes, st.integers(1, 7), st.integers(1, 40), st.integers(1, 3), st.integers(0, 50), st.sampled_from([0, 2]))
def test_streams_predict_every_byte_from_the_one_before(tmp_path, data, lanes, length, workers, context, loaders):
    corpus = corpus_of(tmp_path, data)
    plan = evaluation_lanes(len(data), lanes * workers, context)
    predicted = {}
    for worker in range(workers):
        mine = slice(worker * lanes, (worker + 1) * lanes)
        chunks = streams(corpus, plan, length, mine)
        for sample in (chunks[index] for index in range(len(chunks))):
            target, tokens = sample["target"], sample["net_input"]["src_tokens"]
            assert target.shape == tokens.shape == (lanes, tokens.size(1)) and tokens.dtype == torch.int64
            assert sample["ntokens"] == (target != PAD).sum()
            for row, start in enumerate(sample["start_indices"]):
                scored = target[row, start:]
                scored = scored[scored != PAD]
                inputs = tokens[row, start : start + len(scored)]
                predicted.setdefault(int(sample["id"][row]), []).append((inputs, scored))
                assert (target[row, :start] == PAD).all()
    inputs = torch.cat([part[0] for lane in sorted(predicted) for part in predicted[lane]])
    targets = torch.cat([part[1] for lane in sorted(predicted) for part in predicted[lane]])
    assert DICTIONARY.decode_bytes(targets) == data and len(targets) == len(data)
    assert inputs[0] == EOS and DICTIONARY.decode_bytes(inputs[1:]) == data[:-1]


@fixture_is_fine
@given(any_bytes, st.integers(1, 40), st.integers(0, 60), st.integers(1, 9))
def test_blocks_predict_every_byte_once_after_their_context(tmp_path, data, block, context, size):
    blocks = BlockDataset(corpus_of(tmp_path, data), DICTIONARY, block, context)
    targets = []
    for batch in BlockBatches(order_of_blocks(len(blocks), None), size):
        sample = blocks.collater([blocks[index] for index in batch])
        total = 0
        for row, start in enumerate(sample["start_indices"]):
            target = sample["target"][row, start:]
            scored = target[target != PAD]
            first = int(sample["id"][row]) * block
            assert start == min(context, first)
            window = sample["net_input"]["src_tokens"][row, : start + len(scored)]
            text = data[max(0, first - start - 1) : first + len(scored) - 1]
            assert DICTIONARY.decode_bytes(window) == text
            targets.append(scored)
            total += len(scored)
        assert total == sample["ntokens"]
    assert DICTIONARY.decode_bytes(torch.cat(targets)) == data


@fixture_is_fine
@given(st.integers(1, 200), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.sampled_from([None, (1, 1)]))
def test_workers_share_out_the_blocks(tmp_path, bytes_, block, size, workers, seeds):
    blocks = BlockDataset(corpus_of(tmp_path, bytes(bytes_)), DICTIONARY, block)
    shares = []
    for rank in range(workers):
        worker = {"num_shards": workers, "shard_id": rank, "num_workers": 0, "epoch": 1}
        shares.append(list(BlockIterator(blocks, size, seeds, **worker).next_epoch_itr()))
    assert len({len(share) for share in shares}) == 1
    ids = [int(i) for share in shares for batch in share if batch for i in batch["id"]]
    assert sorted(ids) == list(range(len(blocks)))
    if seeds is None and workers == 1:
        assert ids == sorted(ids)


def test_the_order_of_blocks_is_an_epochs_own():
    orders = [order_of_blocks(200, seeds).tolist() for seeds in ((1, 1), (1, 1), (1, 2), (2, 1))]
    assert orders[0] == orders[1] and orders[0] != orders[2] and orders[0] != orders[3]


@pytest.mark.parametrize("loaders", [0, 2])
def test_iterator_yields_chunks_in_order_with_one_carrier_a_pass(tmp_path, loaders):
    corpus = corpus_of(tmp_path, bytes(range(100)))
    options = TrainingOptions(10, seed=1, warmup=20, keep_state=True)
    iterator = training_stream(corpus, DICTIONARY, options, 2, 1, Worker(1, 0, loaders))
    first = list(iterator.next_epoch_itr())
    assert [sample["net_input"]["stream"].index for sample in first] == list(range(len(first)))
    assert [sample["net_input"]["stream"].fresh for sample in first] == [True] + [False] * (len(first) - 1)
    carriers = {id(sample["net_input"]["stream"].carrier) for sample in first}
    assert len(carriers) == 1
    second = list(iterator.next_epoch_itr())
    assert iterator.epoch == 2 and id(second[0]["net_input"]["stream"].carrier) not in carriers
    assert id(iterator.first_batch["net_input"]["stream"].carrier) != id(iterator.carrier)
    ends = [np.cumsum([sample["target"].size(1) for sample in samples]).tolist() for samples in (first, second)]
    assert ends == [chunk_ends(50, 10, (1, epoch)).tolist() for epoch in (1, 2)]


def test_a_later_start_skips_chunks(tmp_path):
    corpus = corpus_of(tmp_path, bytes(range(100)))
    chunks = streams(corpus, training_lanes(100, 2), 10, slice(0, 2))
    iterator = StreamIterator(chunks, StreamCarrier(), epoch=1, num_workers=0)
    iterator.load_state_dict({"version": 2, "epoch": 1, "iterations_in_epoch": 3, "shuffle": True})
    rest = iterator.next_epoch_itr()
    assert rest.n == 3 and len(rest) == 5
    assert [sample["net_input"]["stream"].index for sample in rest] == [3, 4]


def test_corpus_is_mapped_not_read(tmp_path):
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # a terabyte of holes
    corpus = ByteCorpus(str(path))
    assert len(corpus) == 1 << 40
    plan = evaluation_lanes(len(corpus), 1 << 10)
    sample = StreamDataset(corpus, DICTIONARY, plan, np.array([64]), slice(5, 9))[0]
    assert sample["target"].tolist() == [[DICTIONARY.offset] * 64] * 4


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda folder: ByteCorpus(str(folder / "nowhere")), "cannot read .*nowhere: No such file"),
        (lambda folder: ByteCorpus(str(folder)), "cannot read .*: it is a folder"),
        (lambda folder: corpus_of(folder, b""), "split is empty"),
        (lambda folder: split_path(str(folder / "nowhere"), "train"), "DATA folder .*nowhere does not exist"),
        (lambda folder: split_path(str(folder), "valid"), r"has no file named valid \(it has: present\)"),
    ],
)
def test_missing_and_empty_files_are_named(tmp_path, make, message):
    (tmp_path / "present").write_bytes(b"x")
    with pytest.raises(UsageError, match=message):
        make(tmp_path)
