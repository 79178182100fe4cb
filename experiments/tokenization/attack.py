"""The attack: the same text under other segmentations, and what the reported figures make of it.

Bytes, which have one segmentation, go through the same measurements as the control.
"""

import math
from typing import Dict, List

import numpy as np
import sentencepiece

from experiments.tokenization.readers import reader_of
from experiments.tokenization.segmentations import LINE_END, ListCorpus, Segmenter, units_of
from fairseq_sharnn.data.text.spans import count_words
from fairseq_sharnn.evaluation.scoring import Scorer

ALPHAS = (1.0, 0.5, 0.1)
RANKS = (2, 8)
CHOICES = 16  # segmentations of a word that the greedy search looks at


def beginning(text: bytes, size: int) -> str:
    """Whole lines of about `size` bytes from the text's beginning (a part of the first one if it is longer)."""
    part = text[:size]
    if len(text) > size and b"\n" in part:
        part = part[: part.rindex(b"\n") + 1]
    return part.decode("utf-8", "ignore")


def figures(nats: float, tokens: int, text: str) -> Dict:
    """The figures of a text under one segmentation."""
    data = text.encode()
    words = max(1, count_words(np.frombuffer(data, dtype=np.uint8)))
    return {
        "tokens": tokens,
        "nats": nats,
        "bits_per_byte": nats / math.log(2) / len(data),
        "bits_per_word": nats / math.log(2) / words,
        "nats_per_token": nats / tokens,
        "token_perplexity": math.exp(nats / tokens),
    }


def resegmented(scored: Scorer, segmenter: Segmenter, text: str, seed: int, **options) -> List[Dict]:
    """The whole text under its canonical segmentation, under the k-th best of every word, and under sampled ones."""
    sentencepiece.set_random_generator_seed(seed)
    units = list(units_of(text))
    variants = [("canonical", [segmenter.canonical(unit) for unit in units])]
    for rank in RANKS:
        best = [segmenter.n_best(unit, rank) for unit in units]
        variants.append((f"best number {rank}", [found[min(rank, len(found)) - 1] for found in best]))
    for alpha in ALPHAS:
        variants.append((f"sampled, alpha {alpha}", [segmenter.sampled(unit, alpha) for unit in units]))
    rows = []
    for name, parts in variants:
        ids = [index for part in parts for index in part]
        assert segmenter.decode(ids) == text.encode(), "the text stays the same"
        nats = float(scored.nats(ListCorpus(ids), **options).sum())
        rows.append({"segmentation": name, **figures(nats, len(ids), text)})
    return rows


def chosen_words(units: List[str], count: int) -> List[int]:
    """Places of `count` units that hold a word, spread evenly."""
    words = [number for number, unit in enumerate(units) if unit != LINE_END and unit.strip()]
    step = max(1.0, len(words) / count)
    return [words[int(number * step)] for number in range(min(count, len(words)))]


def summed(scored: Scorer, segmenter: Segmenter, text: str, window: int, count: int, best: int) -> Dict:
    """−log2 of the probability of words, by the canonical segmentation and summed over the n best, n = 1, 2, 4, ...

    The history of each word is canonical. What the sum gives more than the canonical segmentation is probability that
    the model spends on segmentations which nobody scores.
    """
    units = list(units_of(text))
    places, reader = set(chosen_words(units, count)), reader_of(scored, window)
    sizes = [1 << power for power in range(best.bit_length()) if 1 << power <= best]
    bits, several, segmentations = dict.fromkeys(sizes, 0.0), 0, 0
    for number, unit in enumerate(units):
        if number in places:
            candidates = segmenter.n_best(unit, best)
            nats = reader.nats(candidates)
            for size in sizes:
                bits[size] -= float((-nats[:size]).logsumexp(0)) / math.log(2)
            several += len(candidates) > 1
            segmentations += len(candidates)
        reader.read(segmenter.canonical(unit))
    words = len(places)
    return {
        "words": words,
        "segmentations_per_word": segmentations / words,
        "words_with_several": several,
        "bits_per_word": {str(size): value / words for size, value in bits.items()},
    }


def searched(scored: Scorer, segmenter: Segmenter, text: str, window: int, count: int) -> List[Dict]:
    """The first `count` words under the canonical segmentation and under two that are searched for, left to right.

    `likeliest`: of each word's best segmentations the one with the fewest nats after those chosen before. `easiest
    looking`: the one that leaves the fewest nats per token, which is what a perplexity per token reports.
    """
    part, rows = _first_words(list(units_of(text)), count), []
    for name in ("canonical", "likeliest", "easiest looking"):
        reader, total, tokens, ids = reader_of(scored, window), 0.0, 0, []
        for unit in part:
            candidates = [segmenter.canonical(unit)] if name == "canonical" else segmenter.n_best(unit, CHOICES)
            chosen = candidates[0]
            if len(candidates) > 1:
                nats = reader.nats(candidates).tolist()
                chosen = candidates[_choice(name, nats, candidates, total, tokens)]
            total += reader.read(chosen)
            tokens += len(chosen)
            ids += chosen
        assert segmenter.decode(ids) == "".join(part).encode(), "the text stays the same"
        rows.append({"segmentation": name, **figures(total, tokens, "".join(part))})
    return rows


def _first_words(units: List[str], count: int) -> List[str]:
    kept, words = [], 0
    for unit in units:
        if unit != LINE_END and unit.strip():
            if words == count:
                break
            words += 1
        kept.append(unit)
    return kept


def _choice(name: str, nats: List[float], candidates: List[List[int]], total: float, tokens: int) -> int:
    if name == "likeliest":
        return min(range(len(nats)), key=lambda k: nats[k])
    return min(range(len(nats)), key=lambda k: (total + nats[k]) / (tokens + len(candidates[k])))
