"""Blocks for stateless models (fairseq's Transformers and LSTMs), which see only their own window."""

from typing import Any, Dict, List, Optional, Sequence, Tuple, cast

import numpy as np
from fairseq.data import Dictionary, FairseqDataset, iterators

from fairseq_sharnn.data.corpora.base import Corpus
from fairseq_sharnn.data.samples import make_sample
from fairseq_sharnn.data.streams.lanes import EXHAUSTED


class BlockDataset(FairseqDataset):
    """Item i scores ids [i·block, (i + 1)·block) of the file, after up to `context` unscored ids before them.

    Every id is scored once, those of the short last block too.
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


class BlockBatches(Sequence[List[int]]):
    """Blocks in an order, `size` in a batch: every `step`-th batch from `first` on, made when it is needed.

    The last batch takes what is left. Where the number of batches is not a multiple of the number of workers, the
    missing ones are empty, and fairseq runs its dummy batch instead.
    """

    def __init__(self, order: Sequence[int], size: int, first: int = 0, step: int = 1):
        self.order = order
        self.size = size
        self.first = first
        self.step = step

    def __len__(self) -> int:
        batches = -(-len(self.order) // self.size)
        return -(-batches // self.step)

    def __getitem__(self, index: Any) -> Any:
        """Numbers of the blocks in a batch; for a slice, a list of batches."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        start = (self.first + range(len(self))[index] * self.step) * self.size
        return [int(block) for block in self.order[start : start + self.size]]

    def of_worker(self, rank: int, workers: int) -> "BlockBatches":
        """The batches of one of several workers."""
        return BlockBatches(self.order, self.size, rank, workers)


def order_of_blocks(blocks: int, seeds: Optional[Tuple[int, int]]) -> Sequence[int]:
    """File order, or the order that seed and epoch decide."""
    if seeds is None:
        return range(blocks)
    return cast(Sequence[int], np.random.default_rng(list(seeds)).permutation(blocks))


class BlockIterator(iterators.EpochBatchIterator):
    """fairseq's epoch iterator over blocks. Batches are made when they are needed. Each epoch has its own order."""

    def __init__(self, dataset: BlockDataset, size: int, seeds: Optional[Tuple[int, int]], **worker: int):
        super().__init__(
            dataset=dataset, collate_fn=dataset.collater, batch_sampler=(), disable_shuffling=True, **worker
        )
        self._batches = BlockBatches(order_of_blocks(len(dataset), seeds), size)

    @property
    def frozen_batches(self) -> BlockBatches:
        return self._batches

    def ordered_batches(self, epoch: int, fix_batches_to_gpus: bool, shuffle: bool) -> BlockBatches:
        return self._batches.of_worker(self.shard_id, self.num_shards)
