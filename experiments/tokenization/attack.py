"""The attack: the same text under other segmentations, and how far they move the figures that are reported of it.

Bytes have one segmentation. They go through the same measurements as a control.
"""

import math
from typing import List, Sequence, Tuple, Union

import numpy as np
import sentencepiece

from experiments.tokenization.readers import make_reader
from experiments.tokenization.records import CANONICAL, EASIEST, LIKELIEST, SegmentationFigures, SumFigures
from experiments.tokenization.segmentations import LINE_END, ListCorpus, OneSegmentation, Segmenter, units_of
from fairseq_sharnn.data.text.spans import count_words
from fairseq_sharnn.evaluation.scoring import Scorer

ALPHAS = (1.0, 0.5, 0.1)
RANKS = (2, 8)
CHOICES = 16  # segmentations of a word that the greedy search compares

AnySegmenter = Union[Segmenter, OneSegmentation]


def take_beginning(text: bytes, size: int) -> str:
    """The first lines of a text, about `size` bytes; a part of the first line if that is longer."""
    part = text[:size]
    if len(text) > size and b"\n" in part:
        part = part[: part.rindex(b"\n") + 1]
    return part.decode("utf-8", "ignore")


def describe_segmentation(name: str, nats: float, tokens: int, text: str) -> SegmentationFigures:
    """The figures of a text under one segmentation."""
    data = text.encode()
    words = max(1, count_words(np.frombuffer(data, dtype=np.uint8)))
    return SegmentationFigures(
        segmentation=name,
        tokens=tokens,
        nats=nats,
        bits_per_byte=nats / math.log(2) / len(data),
        bits_per_word=nats / math.log(2) / words,
        nats_per_token=nats / tokens,
        token_perplexity=math.exp(nats / tokens),
    )


def resegment(scorer: Scorer, segmenter: AnySegmenter, text: str, seed: int, **options) -> List[SegmentationFigures]:
    """Score the whole text under its canonical segmentation, the k-th best of every word, and sampled ones."""
    sentencepiece.set_random_generator_seed(seed)
    units = list(units_of(text))
    variants = [(CANONICAL, [segmenter.canonical(unit) for unit in units])]
    for rank in RANKS:
        best = [segmenter.n_best(unit, rank) for unit in units]
        variants.append((f"best number {rank}", [candidates[min(rank, len(candidates)) - 1] for candidates in best]))
    for alpha in ALPHAS:
        variants.append((f"sampled, alpha {alpha}", [segmenter.sampled(unit, alpha) for unit in units]))
    rows = []
    for name, parts in variants:
        ids = [index for part in parts for index in part]
        assert segmenter.decode(ids) == text.encode(), "the text stays the same"
        nats = float(scorer.nats(ListCorpus(ids), **options).sum())
        rows.append(describe_segmentation(name, nats, len(ids), text))
    return rows


def choose_words(units: Sequence[str], count: int) -> List[int]:
    """Numbers of `count` units that have a word, evenly spread."""
    words = [number for number, unit in enumerate(units) if _has_word(unit)]
    step = max(1.0, len(words) / count)
    return [words[int(number * step)] for number in range(min(count, len(words)))]


def sum_segmentations(
    scorer: Scorer, segmenter: AnySegmenter, text: str, window: int, count: int, best: int
) -> SumFigures:
    """Bits per word by the canonical segmentation (n = 1), and summed over the n best, n = 2, 4, ... up to `best`.

    The text before each word is in its canonical segmentation. The sum has a higher probability than the canonical
    segmentation: the difference is probability that the model gives to segmentations which nobody scores.
    """
    units = list(units_of(text))
    chosen, reader = set(choose_words(units, count)), make_reader(scorer, window)
    sizes = [1 << power for power in range(best.bit_length()) if 1 << power <= best]
    bits, several, segmentations = dict.fromkeys(sizes, 0.0), 0, 0
    for number, unit in enumerate(units):
        if number in chosen:
            candidates = segmenter.n_best(unit, best)
            nats = reader.nats(candidates)
            for size in sizes:
                bits[size] -= float((-nats[:size]).logsumexp(0)) / math.log(2)
            several += len(candidates) > 1
            segmentations += len(candidates)
        reader.read(segmenter.canonical(unit))
    words = len(chosen)
    return SumFigures(
        words=words,
        segmentations_per_word=segmentations / words,
        words_with_several=several,
        bits_per_word={size: value / words for size, value in bits.items()},
    )


def search_segmentations(
    scorer: Scorer, segmenter: AnySegmenter, text: str, window: int, count: int
) -> List[SegmentationFigures]:
    """The first `count` words under the canonical segmentation, and under two that a greedy search finds, left to right.

    `likeliest` takes each word's segmentation with the fewest nats. `easiest looking` takes the one that leaves the
    fewest nats per token so far, which is what a perplexity per token reports.
    """
    part = first_words(list(units_of(text)), count)
    text = "".join(part)
    rows = []
    for name in (CANONICAL, LIKELIEST, EASIEST):
        ids, nats = _search(scorer, segmenter, part, window, name)
        assert segmenter.decode(ids) == text.encode(), "the text stays the same"
        rows.append(describe_segmentation(name, nats, len(ids), text))
    return rows


def _search(
    scorer: Scorer, segmenter: AnySegmenter, units: Sequence[str], window: int, name: str
) -> Tuple[List[int], float]:
    """Ids of the units under one rule, and their nats."""
    reader, total, ids = make_reader(scorer, window), 0.0, []
    for unit in units:
        candidates = [segmenter.canonical(unit)] if name == CANONICAL else segmenter.n_best(unit, CHOICES)
        chosen = candidates[0]
        if len(candidates) > 1:
            nats = reader.nats(candidates).tolist()
            chosen = candidates[_choose(name, nats, candidates, total, len(ids))]
        total += reader.read(chosen)
        ids += chosen
    return ids, total


def _choose(name: str, nats: List[float], candidates: List[List[int]], total: float, tokens: int) -> int:
    """The number of the candidate that a rule takes. total, tokens: nats and tokens so far."""
    if name == LIKELIEST:
        return min(range(len(nats)), key=lambda k: nats[k])
    return min(range(len(nats)), key=lambda k: (total + nats[k]) / (tokens + len(candidates[k])))


def first_words(units: Sequence[str], count: int) -> List[str]:
    """The units up to the one with the word number `count`."""
    kept, words = [], 0
    for unit in units:
        if _has_word(unit):
            if words == count:
                break
            words += 1
        kept.append(unit)
    return kept


def _has_word(unit: str) -> bool:
    return unit != LINE_END and bool(unit.strip())
