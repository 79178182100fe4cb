"""Other valid segmentations of a text: sentencepiece's samples and its n best, word by word.

A piece never has a space inside, so the segmentations of a text are those of its units. A unit is a word with the space
before it. In text without spaces a unit is a whole line.
"""

import re
from typing import Dict, Iterator, List, Optional, Tuple

import numpy as np

from fairseq_sharnn.data.corpora.base import Corpus
from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary
from fairseq_sharnn.data.text.pieces import PieceTokenizer

_UNIT = re.compile(r" [^ ]*|[^ ]+")
LINE_END = "\n"


def units_of(text: str) -> Iterator[str]:
    """The units of a text, in order. Each line end is a unit."""
    for number, line in enumerate(text.split("\n")):
        if number > 0:
            yield LINE_END
        yield from _UNIT.findall(line)


class Segmenter:
    """Segmentations of units as ids of the model's dictionary. Each is checked: it stands for exactly these bytes."""

    def __init__(self, tokenizer: PieceTokenizer):
        self.tokenizer = tokenizer
        self.best_of: Dict[Tuple[str, int], List[List[int]]] = {}

    def canonical(self, unit: str) -> List[int]:
        """The segmentation that the model was trained on."""
        if unit == LINE_END:
            return [self.tokenizer.dictionary.eos()]
        return self.tokenizer.encode_line(unit)

    def n_best(self, unit: str, n: int) -> List[List[int]]:
        """The canonical segmentation and the next n − 1 of sentencepiece's n best (fewer if there are no more)."""
        if (unit, n) not in self.best_of:
            candidates = [self.canonical(unit)]
            if unit != LINE_END and n > 1:
                for numbers in self.tokenizer.model.processor.nbest_encode_as_ids(unit, n):
                    ids = self._checked(numbers, unit)
                    if ids is not None and ids not in candidates:
                        candidates.append(ids)
            self.best_of[unit, n] = candidates[:n]
        return self.best_of[unit, n]

    def sampled(self, unit: str, alpha: float) -> List[int]:
        """A segmentation that is drawn from all. Its probability is the model's to the power of alpha."""
        if unit == LINE_END:
            return self.canonical(unit)
        ids = self._checked(self.tokenizer.model.processor.sample_encode_as_ids(unit, -1, alpha), unit)
        return self.canonical(unit) if ids is None else ids

    def decode(self, ids: List[int]) -> bytes:
        return self.tokenizer.decode(ids)

    def _checked(self, numbers: List[int], unit: str) -> Optional[List[int]]:
        model = self.tokenizer.model
        numbers = model.spaces_as_bytes(numbers)
        if model.spelled(numbers) != unit.encode():
            return None
        return [self.tokenizer.id_of[number] for number in numbers]


class OneSegmentation:
    """The control: bytes, of which every text has one sequence only."""

    def __init__(self, dictionary: ByteDictionary):
        self.dictionary = dictionary

    def canonical(self, unit: str) -> List[int]:
        return self.dictionary.encode_bytes(unit.encode()).tolist()

    def n_best(self, unit: str, n: int) -> List[List[int]]:
        return [self.canonical(unit)]

    def sampled(self, unit: str, alpha: float) -> List[int]:
        return self.canonical(unit)

    def decode(self, ids: List[int]) -> bytes:
        return self.dictionary.decode_bytes(ids)


class ListCorpus(Corpus):
    """Ids in memory, which are scored like a split."""

    unit = "token"
    path = "a text in memory"

    def __init__(self, ids: List[int]):
        super().__init__()
        self.data = np.array(ids, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.data)

    def ids(self, position: np.ndarray) -> np.ndarray:
        return self.data[position]
