"""Chunks of one worker's lanes as items of a dataset."""

from typing import Dict, Iterator, Sequence, Tuple

import numpy as np
import torch
from fairseq.data import Dictionary

from fairseq_sharnn.data.corpora.base import Corpus
from fairseq_sharnn.data.samples import make_sample
from fairseq_sharnn.data.streams.lanes import LanePlan


class StreamDataset(torch.utils.data.Dataset):
    """Item k is chunk k of one worker's lanes: a pure function of k, for any loader process.

    ends: where each chunk ends, in columns behind `first_column`, where chunk 0 begins; what is before only warms the
    state. lanes: which of the plan's lanes this worker reads.
    """

    def __init__(
        self,
        corpus: Corpus,
        dictionary: Dictionary,
        plan: LanePlan,
        ends: Sequence[int],
        lanes: slice,
        first_column: int = 0,
    ):
        self.corpus = corpus
        self.dictionary = dictionary
        self.plan = plan
        self.ends = ends
        self.lanes = lanes
        self.first_column = first_column

    def __len__(self) -> int:
        return len(self.ends)

    def columns(self, index: int) -> Tuple[int, int]:
        """First and last-plus-one column of chunk `index`."""
        start = int(self.ends[index - 1]) if index > 0 else 0
        return self.first_column + start, self.first_column + int(self.ends[index])

    def __getitem__(self, index: int) -> Dict:
        return self._sample(*self.columns(index), index)

    def _sample(self, start: int, stop: int, index: int) -> Dict:
        position, scored = self.plan.targets(self.lanes, start, stop)
        lanes = np.arange(self.plan.lanes)[self.lanes]
        sample = make_sample(self.corpus, self.dictionary, lanes, position, scored)
        fresh = index == 0 and self.first_column == 0
        place = {"first_byte": int(position[0, 0]), "unit": self.corpus.unit}
        sample["net_input"]["stream"] = {"index": index, "fresh": fresh, **place}
        return sample

    def before(self, index: int, rows: int, length: int) -> Iterator[torch.Tensor]:
        """Input tokens [B, n] of the `rows` columns before chunk `index` (fewer at the start), `length` at a time."""
        stop = self.columns(index)[0]
        for start in range(max(0, stop - rows), stop, length):
            yield self._sample(start, min(start + length, stop), index)["net_input"]["src_tokens"]
