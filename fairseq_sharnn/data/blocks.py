"""Blocks for stateless models (fairseq's Transformers and LSTMs): each starts from nothing but its own window."""

from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
from fairseq.data import Dictionary, FairseqDataset, iterators

from fairseq_sharnn.data.corpora.base import Corpus
from fairseq_sharnn.data.samples import make_sample
from fairseq_sharnn.data.streams.lanes import EXHAUSTED


class BlockDataset(FairseqDataset):
    """Item i scores bytes [i·block, (i + 1)·block) of the file, after up to `context` unscored bytes before them.

    Every byte is scored once, the ragged end included.
    """

    def __init__(self, corpus: Corpus, dictionary: Dictionary, block: int, context: int = 0):
        super().__init__()
        self.corpus = corpus
        self.dictionary = dictionary
        self.block = block
        self.context = context

    def __len__(self) -> int:
        return -(-len(self.corpus) // self.block)

    def __getitem__(self, index: int) -> int:
        return index

    def collater(self, samples: List[int]) -> Dict:
        """Windows of the given blocks, padded on the right to the longest."""
        if len(samples) == 0:
            return {}
        first = np.asarray(samples, dtype=np.int64)[:, None] * self.block
        start = np.maximum(first - self.context, 0)
        stop = np.minimum(first + self.block, len(self.corpus))
        position = start + np.arange((stop - start).max())[None, :]
        position = np.where(position < stop, position, EXHAUSTED)
        return make_sample(self.corpus, self.dictionary, np.asarray(samples), position, position >= first)


class BlockBatches(Sequence):
    """Blocks in an order, `size` a batch, every `step`-th batch from `first` on; made when asked for.

    The last batch takes what is left; where workers do not share out evenly, the missing ones are empty, which fairseq
    takes for a dummy.
    """

    def __init__(self, order: Sequence[int], size: int, first: int = 0, step: int = 1):
        self.order = order
        self.size = size
        self.first = first
        self.step = step

    def __len__(self) -> int:
        batches = -(-len(self.order) // self.size)
        return -(-batches // self.step)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        start = (self.first + range(len(self))[index] * self.step) * self.size
        return [int(block) for block in self.order[start : start + self.size]]

    def of_worker(self, rank: int, workers: int) -> "BlockBatches":
        return BlockBatches(self.order, self.size, rank, workers)


def order_of_blocks(blocks: int, seeds: Optional[Tuple[int, int]]) -> Sequence[int]:
    """File order, or the order drawn from seed and epoch alone."""
    return range(blocks) if seeds is None else np.random.default_rng(list(seeds)).permutation(blocks)


class BlockIterator(iterators.EpochBatchIterator):
    """fairseq's epoch iterator over blocks, whose batches are not all made beforehand. The order is an epoch's own."""

    def __init__(self, dataset: BlockDataset, size: int, seeds: Optional[Tuple[int, int]], **worker):
        super().__init__(
            dataset=dataset, collate_fn=dataset.collater, batch_sampler=(), disable_shuffling=True, **worker
        )
        self._batches = BlockBatches(order_of_blocks(len(dataset), seeds), size)

    @property
    def frozen_batches(self) -> BlockBatches:
        return self._batches

    def ordered_batches(self, epoch, fix_batches_to_gpus, shuffle) -> BlockBatches:
        return self._batches.of_worker(self.shard_id, self.num_shards)
