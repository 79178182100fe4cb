"""Successive halving: many settings for a short time, the better half for twice as long, and so on.

Settings are lengths (windows or chunks, with the context of a Transformer with memory), rates and warm-ups. Short trials
favour short windows, so lengths compete last: the first two halvings are among settings of one length. Every contestant
gets the same time: each round has twice the budget of a last trial, shared by the settings that are left in it.
"""

import math
from dataclasses import replace
from typing import Dict, List, Optional, Sequence, Tuple

from experiments.comparison.trials import Budget, Trial

ROUNDS = 4
SETTINGS = 4  # rates and warm-ups, at each length
FINALISTS = 2

# A length of windows or chunks, and the context length that goes with it (None: the contestant's).
Shape = Tuple[int, Optional[int]]


def lengths(family: str, window: int, chunk: int, context: int, update: int) -> List[Shape]:
    """The lengths that a family tries, as far as they divide the `update` bytes of an update.

    Stateless models: the preset's window and longer ones, up to eight times. SHA-RNN: half of the preset's chunk to four
    times of it, below its context. A Transformer with memory: chunks of one to four times, with memories of one to three.
    """
    if family == "sha_rnn":
        found: List[Shape] = [
            (length, None) for length in (chunk // 2, chunk, 2 * chunk, 4 * chunk) if length < context
        ]
    elif family == "transformer_xl":
        found = [(chunk, 4 * chunk), (2 * chunk, 4 * chunk), (2 * chunk, 8 * chunk), (4 * chunk, 8 * chunk)]
    else:
        found = [(factor * window, None) for factor in (1, 2, 4, 8)]
    return [(length, around) for length, around in found if length > 0 and update % length == 0]


def candidates(settings: Sequence[Trial], shapes: Sequence[Shape]) -> Tuple[Trial, ...]:
    """Every setting at every length."""
    return tuple(
        replace(trial, length=length, context=context) for length, context in shapes for trial in settings[:SETTINGS]
    )


def budget_of(count: int, last: Budget) -> Budget:
    """What each of `count` trials of a round may spend; `last` is the budget of a trial of the last round."""
    share = FINALISTS / count
    if last.updates is not None:
        return Budget(updates=max(1, round(last.updates * share)))
    return Budget(minutes=last.minutes * share)


def survivors(number: int, results: Dict[Trial, float]) -> List[Trial]:
    """The settings that take part after round `number` (from 1), in their order. results: validation, bits per byte.

    After the first round the better half of each length, after the second the best of each, after the third the two best
    of all, after the last the best. Failed settings are those whose result is not finite; they count as the worst.
    """
    score = {trial: value if math.isfinite(value) else math.inf for trial, value in results.items()}
    trials = list(results)
    if number >= 3:
        kept = sorted(trials, key=score.__getitem__)[: FINALISTS if number < ROUNDS else 1]
        return [trial for trial in trials if trial in kept]
    left: List[Trial] = []
    for shape in dict.fromkeys(trial.shape for trial in trials):
        same = sorted((trial for trial in trials if trial.shape == shape), key=score.__getitem__)
        left += same[: max(1, len(same) // 2) if number == 1 else 1]
    return [trial for trial in trials if trial in left]
