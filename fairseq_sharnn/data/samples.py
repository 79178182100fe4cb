"""From places in the file to the tensors that fairseq's criterions and scorer read."""

from typing import Dict

import numpy as np
import torch
from fairseq.data import Dictionary

from fairseq_sharnn.data.corpora.base import Corpus
from fairseq_sharnn.data.streams.lanes import EXHAUSTED


def make_sample(
    corpus: Corpus, dictionary: Dictionary, ids: np.ndarray, position: np.ndarray, scored: np.ndarray
) -> Dict:
    """Build fairseq's sample for rows of predicted bytes or tokens.

    ids: [B], a number for each row.
    position: [B, T], the place in the file of what is predicted. It is EXHAUSTED after a row's end.
    scored: [B, T], whether it counts. Unscored places are a row's first ones (warm-up) and its last ones (padding).

    The input is the id before the place, or the start symbol </s> at the beginning of the file. `ntokens` is the number
    of scored places. fairseq adds it up for "Evaluated N tokens".
    """
    exists = position != EXHAUSTED
    before = corpus.ids(np.maximum(position - 1, 0))
    inputs = np.where(exists, np.where(position == 0, dictionary.eos(), before), dictionary.pad())
    targets = np.where(scored, corpus.ids(np.maximum(position, 0)), dictionary.pad())
    return {
        "id": torch.from_numpy(np.asarray(ids, dtype=np.int64)),
        "nsentences": len(ids),
        "ntokens": int(scored.sum()),
        "start_indices": (exists & ~scored).sum(axis=1).tolist(),
        "net_input": {
            "src_tokens": torch.from_numpy(inputs),
            "src_lengths": torch.from_numpy(exists.sum(axis=1)),
        },
        "target": torch.from_numpy(targets),
    }
