"""Rate and decay of dynamic evaluation for one model, by few runs over a part of a split."""

import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Iterator, List, Sequence

import numpy as np

from fairseq_sharnn.data.corpora.base import Corpus
from fairseq_sharnn.evaluation.dynamic import STATIC, DynamicSettings
from fairseq_sharnn.evaluation.scoring import Scorer


@dataclass(frozen=True)
class Run:
    """One run: its settings, bits per token (of a byte model: per byte), and the seconds that it took."""

    dynamic: DynamicSettings
    bits: float
    seconds: float


class FirstIds(Corpus):
    """The first `count` ids of a corpus, which are scored like a split."""

    def __init__(self, corpus: Corpus, count: int):
        super().__init__()
        self.corpus, self.count = corpus, min(count, len(corpus))
        self.path, self.unit = corpus.path, corpus.unit

    def __len__(self) -> int:
        return self.count

    def ids(self, position: np.ndarray) -> np.ndarray:
        return self.corpus.ids(position)


def tune(
    scorer: Scorer,
    corpus: Corpus,
    first: DynamicSettings,
    rates: Sequence[float],
    decays: Sequence[float],
    say: Callable[[Run], None] = lambda run: None,
    **options: Any,
) -> List[Run]:
    """Static, then each rate without decay, then each decay at the best rate: at most 1 + rates + decays runs.

    Where the best rate is the lowest or the highest, one more is tried beyond it. first: optimizer and clip. say: takes
    each run when it is done. options: those of `Scorer.nats`. There is nothing random: the same runs give the same bits.
    """
    runs: List[Run] = []

    def run(settings: DynamicSettings) -> Run:
        began = time.perf_counter()
        nats = scorer.nats(corpus, dynamic=settings, **options)
        runs.append(Run(settings, float(nats.mean() / np.log(2)), time.perf_counter() - began))
        say(runs[-1])
        return runs[-1]

    run(STATIC)
    for rate in sorted(rates):
        run(replace(first, lr=rate, decay=0.0))
    for rate in _beyond(runs, sorted(rates)):
        run(replace(first, lr=rate, decay=0.0))
    rate = best(runs[1:]).dynamic.lr
    for decay in decays:
        run(replace(first, lr=rate, decay=decay))
    return runs


def best(runs: Sequence[Run]) -> Run:
    """The run with the fewest bits. One that diverged (not a number) is never the best while another did not."""
    return min(runs, key=lambda run: (not np.isfinite(run.bits), run.bits))


def _beyond(runs: Sequence[Run], rates: Sequence[float]) -> Iterator[float]:
    """A rate outside of those tried, if the best is at an end."""
    found = best(runs[1:]).dynamic.lr
    if found == rates[0]:
        yield rates[0] / 2
    elif found == rates[-1]:
        yield rates[-1] * 2
