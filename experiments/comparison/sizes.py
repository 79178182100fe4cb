"""The sizes that bring every contestant to one number of parameters."""

from dataclasses import dataclass
from typing import Dict, Iterator, Optional, Sequence, Tuple

from experiments.comparison.contestant import Contestant
from experiments.harness.sizes import Count, nearest_inner_width, nearest_widths, parameter_counter
from fairseq_sharnn.errors import UsageError

TOLERANCE = 0.03


@dataclass(frozen=True)
class Size:
    """A contestant's options for its sizes, and its number of parameters, shared ones counted once."""

    options: Tuple[str, ...]
    parameters: int


def size_options(contestant: Contestant, width: int, inner: Optional[int] = None) -> Tuple[str, ...]:
    """The options for a width and an inner width, which is the contestant's multiple of the width if it is not given."""
    options = [part for option in contestant.width for part in (option, str(width))]
    if contestant.inner is not None:
        options += [contestant.inner, str(round(contestant.inner_ratio * width) if inner is None else inner)]
    return tuple(options)


def find_size(contestant: Contestant, target: int, count: Count) -> Size:
    """The size whose number of parameters is nearest to `target`. Raises UsageError if none is within 3 %.

    First the width is searched, with the usual multiple of it as inner width; then, for Transformers, the inner width.
    Boom folds whole multiples of the width, so SHA-RNN's inner width stays at four times.
    """
    widths = set(nearest_widths(lambda width: count(size_options(contestant, width)), target, contestant.step))
    sizes = [_size(contestant, width, None, count) for width in widths]
    if contestant.family in ("transformer", "transformer_xl"):
        sizes += [size for width in widths for size in _other_inner_width(contestant, width, target, count)]
    best = min(sizes, key=lambda size: abs(size.parameters - target))
    if abs(best.parameters - target) > TOLERANCE * target:
        raise UsageError(
            f"--parameters {target:,}: {contestant.name} comes no nearer than {best.parameters:,} "
            f"({' '.join(best.options)}), which is not within {TOLERANCE:.0%}: ask for another number"
        )
    return best


def _size(contestant: Contestant, width: int, inner: Optional[int], count: Count) -> Size:
    options = size_options(contestant, width, inner)
    return Size(options, count(options))


def _other_inner_width(contestant: Contestant, width: int, target: int, count: Count) -> Iterator[Size]:
    """The size of that width with the inner width that comes nearest, if that is 2 to 8 times the width."""
    inner = nearest_inner_width(lambda inner: count(size_options(contestant, width, inner)), target)
    if 2 * width <= inner <= 8 * width:
        yield _size(contestant, width, inner, count)


def counter(contestant: Contestant, task_options: Sequence[str]) -> Count:
    """Counts parameters of this contestant as fairseq builds it."""
    contestant.register()
    arguments = ("--task", "byte_level_lm", *task_options, *contestant.arguments)
    return parameter_counter(arguments, size_options(contestant, contestant.step) if contestant.width else ())


def find_sizes(contestants: Sequence[Contestant], target: int, window: int, chunk: int) -> Dict[str, Size]:
    """Sizes of contestants by name. Of a contestant that brings its own size the parameters are only counted."""
    sizes = {}
    for contestant in contestants:
        count = counter(contestant, ("--tokens-per-sample", str(chunk if contestant.streaming else window)))
        sizes[contestant.name] = find_size(contestant, target, count) if contestant.width else Size((), count(()))
    return sizes
