"""The task as fairseq's trainer and scorer call it, on corpora too large to read."""

import numpy as np
import pytest
import torch
from fairseq.criterions.cross_entropy import CrossEntropyCriterion

from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary
from fairseq_sharnn.data.corpora.bytes import ByteCorpus
from fairseq_sharnn.models.sha_rnn import SHARNNDecoder, SHARNNLanguageModel
from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNDropout, SHARNNSizes
from fairseq_sharnn.tasks.byte_level_lm import ByteLevelLMConfig, ByteLevelLMTask


def streaming_task(**options) -> ByteLevelLMTask:
    task = ByteLevelLMTask(ByteLevelLMConfig(**{"seed": 1, "tokens_per_sample": 16, **options}))
    task.carries_state, task.context_length = True, 100
    return task


def corpus(tmp_path, size=1000) -> ByteCorpus:
    (tmp_path / "split").write_bytes(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8).tobytes())
    return ByteCorpus(str(tmp_path / "split"))


def widths(iterator):
    return [sample["target"].size(1) for sample in iterator.next_epoch_itr(shuffle=False)]


def test_only_training_has_jitter(tmp_path):
    data = corpus(tmp_path)
    task = streaming_task()
    assert len(set(widths(task.get_batch_iterator(data, max_sentences=2, grouped_shuffling=False))[:-1])) > 1
    assert set(widths(task.get_batch_iterator(data, max_sentences=2))[:-1]) == {16}
    plain = streaming_task(no_bptt_jitter=True)
    assert set(widths(plain.get_batch_iterator(data, max_sentences=2, grouped_shuffling=False))[:-1]) == {16}


@pytest.mark.parametrize("asked, used", [(0, 0), (1, 0), (2, 2)])
def test_default_of_one_loader_means_none(tmp_path, asked, used):
    data = corpus(tmp_path)
    task = streaming_task()
    assert task.get_batch_iterator(data, max_sentences=2, num_workers=asked).num_workers == used
    task.carries_state = False
    assert task.get_batch_iterator(data, max_sentences=2, num_workers=asked).num_workers == used


@pytest.mark.parametrize("carries_state", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_start_up_does_not_grow_with_the_corpus(tmp_path, carries_state, training):
    """100 GB of holes: what is kept until the first batch is less than a hundredth of a byte for each byte."""
    import tracemalloc

    with open(tmp_path / "large", "wb") as file:
        file.truncate(100 << 30)
    data = ByteCorpus(str(tmp_path / "large"))
    task = streaming_task(tokens_per_sample=8192)
    task.carries_state, task.context_length = carries_state, 10000
    tracemalloc.start()
    options = {"grouped_shuffling": False} if training else {}
    iterator = task.get_batch_iterator(data, max_sentences=16, **options)
    sample = next(iter(iterator.next_epoch_itr(shuffle=False)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sample["target"].size(0) == 16
    # training draws: 8 bytes for each chunk or block, and what drawing takes; evaluation computes
    assert peak < (1 << 29 if training else 1 << 24)


def test_states_of_past_updates_are_let_go(tmp_path):
    task = streaming_task()
    network = SHARNN(SHARNNSizes(260, 8, 8, 2, (0,), 1, 100), SHARNNDropout(0, 0, 0, 0, 0, 0))
    model = SHARNNLanguageModel(SHARNNDecoder(ByteDictionary(), network))
    criterion = CrossEntropyCriterion(task, sentence_avg=False)

    class Backward:
        def backward(self, loss):
            loss.backward()

    iterator = task.get_batch_iterator(corpus(tmp_path), max_sentences=2, grouped_shuffling=False)
    for number, sample in enumerate(iterator.next_epoch_itr()):
        loss, count, _ = task.train_step(sample, model, criterion, Backward(), number // 2)
        assert torch.isfinite(loss) and count == sample["ntokens"]
        assert len(iterator.carrier._before[model.decoder]) <= 3
