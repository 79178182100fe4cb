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

    ends: where each chunk ends, in columns after `first_column`.
    my_lanes: which of the plan's lanes this worker reads.
    first_column: where chunk 0 begins. Columns before it only warm the state up.
    fresh_lanes: every lane begins with </s>, as the file does, and not with the id before its stretch. Then no lane reads
        an id that another one scores later.
    """

    def __init__(
        self,
        corpus: Corpus,
        dictionary: Dictionary,
        plan: LanePlan,
        ends: Sequence[int],
        my_lanes: slice,
        first_column: int = 0,
        fresh_lanes: bool = False,
    ):
        self.corpus = corpus
        self.dictionary = dictionary
        self.plan = plan
        self.ends = ends
        self.my_lanes = my_lanes
        self.first_column = first_column
        self.fresh_lanes = fresh_lanes

    def __len__(self) -> int:
        return len(self.ends)

    def columns(self, index: int) -> Tuple[int, int]:
        """First and last-plus-one column of chunk `index`."""
        start = int(self.ends[index - 1]) if index > 0 else 0
        return self.first_column + start, self.first_column + int(self.ends[index])

    def __getitem__(self, index: int) -> Dict:
        return self._sample(*self.columns(index), index)

    def _sample(self, start: int, stop: int, index: int) -> Dict:
        position, scored = self.plan.targets(self.my_lanes, start, stop)
        numbers = np.arange(self.plan.lanes)[self.my_lanes]
        sample = make_sample(self.corpus, self.dictionary, numbers, position, scored)
        if self.fresh_lanes and start == 0:
            sample["net_input"]["src_tokens"][:, 0] = self.dictionary.eos()
        # Plain values, which a loader process can send. The iterator adds the carrier of the state (StreamChunk).
        sample["net_input"]["stream"] = {
            "index": index,
            "fresh": index == 0 and self.first_column == 0,
            "first_position": int(position[0, 0]),
            "unit": self.corpus.unit,
        }
        return sample

    def before(self, index: int, warmup: int, length: int) -> Iterator[torch.Tensor]:
        """Input tokens [B, n] of the `warmup` columns before chunk `index` (fewer at the start), `length` at a time."""
        stop = self.columns(index)[0]
        for start in range(max(0, stop - warmup), stop, length):
            yield self._sample(start, min(start + length, stop), index)["net_input"]["src_tokens"]
