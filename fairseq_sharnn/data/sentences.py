"""Single texts for fairseq's hub interface, outside any stream."""

from typing import List

import numpy as np
import torch
from fairseq.data import (
    AppendTokenDataset,
    Dictionary,
    IdDataset,
    ListDataset,
    NestedDictionaryDataset,
    NumelDataset,
    PadDataset,
    PrependTokenDataset,
)


def sentence_dataset(sentences: List[torch.Tensor], dictionary: Dictionary) -> NestedDictionaryDataset:
    """Texts as samples for fairseq's generator and scorer: the input begins with </s>, the last target is padding.

    As in fairseq's language-modelling task, but without its TokenBlockDataset, which fails under NumPy 2.
    """
    texts = [text[:-1] if len(text) and text[-1] == dictionary.eos() else text for text in sentences]
    sizes = np.array([len(text) + 1 for text in texts])
    dataset = ListDataset(texts, sizes)
    source = PrependTokenDataset(dataset, dictionary.eos())
    target = AppendTokenDataset(dataset, dictionary.pad())
    return NestedDictionaryDataset(
        {
            "id": IdDataset(),
            "net_input": {
                "src_tokens": PadDataset(source, pad_idx=dictionary.pad(), left_pad=False),
                "src_lengths": NumelDataset(source, reduce=False),
            },
            "target": PadDataset(target, pad_idx=dictionary.pad(), left_pad=False),
        },
        sizes=[sizes],
    )
