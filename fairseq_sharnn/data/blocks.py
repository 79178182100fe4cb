"""Blocks for stateless models (fairseq's Transformers and LSTMs): each starts from nothing but its own window."""

from typing import Dict, List

import numpy as np
from fairseq.data import FairseqDataset

from fairseq_sharnn.data.byte_corpus import ByteCorpus
from fairseq_sharnn.data.byte_dictionary import ByteDictionary
from fairseq_sharnn.data.lanes import EXHAUSTED
from fairseq_sharnn.data.samples import make_sample


class BlockDataset(FairseqDataset):
    """Item i scores bytes [i·block, (i + 1)·block) of the file, after up to `context` unscored bytes before them.

    Every byte is scored once, the ragged end included.
    """

    def __init__(self, corpus: ByteCorpus, dictionary: ByteDictionary, block: int, context: int = 0):
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


def batches_in_order(blocks: int, size: int) -> List[List[int]]:
    """Blocks in file order, `size` a batch; the last takes what is left."""
    return [list(range(start, min(start + size, blocks))) for start in range(0, blocks, size)]


def shuffled_batches(blocks: int, size: int, seed: int, epoch: int) -> List[List[int]]:
    """Blocks in an order drawn from seed and epoch alone, `size` a batch; the last takes what is left."""
    order = np.random.default_rng([seed, epoch]).permutation(blocks)
    return [order[start : start + size].tolist() for start in range(0, blocks, size)]
