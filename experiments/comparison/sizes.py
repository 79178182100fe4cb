"""Bring every contestant to one parameter count: widths are searched, parameters are counted on models really built."""

import contextlib
import copy
import io
import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Callable, Dict, Optional, Tuple

import torch

from experiments.comparison.contestants import Contestant
from fairseq_sharnn.errors import UsageError

TOLERANCE = 0.03
_INNER_RATIO = 4  # inner width over width, in the paper as in Transformers
_WIDEST = 1 << 14


@dataclass(frozen=True)
class Size:
    """A contestant's options for its sizes, and the number of parameters it then has, shared ones counted once."""

    options: Tuple[str, ...]
    parameters: int


def size_options(contestant: Contestant, width: int, inner: Optional[int] = None) -> Tuple[str, ...]:
    """The options for a width, and for an inner width, four times it if not given."""
    options = [part for option in contestant.width for part in (option, str(width))]
    if contestant.inner is not None:
        options += [contestant.inner, str(_INNER_RATIO * width if inner is None else inner)]
    return tuple(options)


Count = Callable[[Tuple[str, ...]], int]


def find_size(contestant: Contestant, target: int, count: Count) -> Size:
    """The size whose count is nearest to `target`. Raises UsageError where none is within 3 %.

    First the width, with four times of it inside; then, for Transformers, the inner width in steps of 8. (Boom folds whole
    multiples of the width, so SHA-RNN's inner width stays at four times.) count: parameters for given size options.
    """

    def size(width: int, inner: Optional[int] = None) -> Size:
        options = size_options(contestant, width, inner)
        return Size(options, count(options))

    low, high = contestant.step, contestant.step
    while size(high).parameters < target and high < _WIDEST:
        low, high = high, high * 2
    while high - low > contestant.step:
        middle = (low + high) // 2 // contestant.step * contestant.step
        low, high = (middle, high) if size(middle).parameters < target else (low, middle)
    found = [(width, size(width)) for width in {low, high}]
    if contestant.family == "transformer":
        found += [(width, adjusted) for width, _ in found for adjusted in _adjusted_inner(size, width, target)]
    best = min((candidate for _, candidate in found), key=lambda candidate: abs(candidate.parameters - target))
    if abs(best.parameters - target) > TOLERANCE * target:
        raise UsageError(
            f"--parameters {target:,}: {contestant.name} comes no nearer than {best.parameters:,} "
            f"({' '.join(best.options)}), which is not within {TOLERANCE:.0%}: ask for another number"
        )
    return best


def _adjusted_inner(size: Callable[..., Size], width: int, target: int):
    """Sizes of that width whose inner width, a multiple of 8, brings the count nearest: it grows linearly with it."""
    one, two = size(width, 8).parameters, size(width, 16).parameters
    inner = max(8, round((target - one) / (two - one) + 1) * 8)
    if 2 * width <= inner <= 8 * width:
        yield size(width, inner)


def counter(contestant: Contestant, task_options: Tuple[str, ...]) -> Count:
    """Counts parameters of this contestant as fairseq builds it, on a device without memory.

    The command line is parsed once; for each size its options are set in the configuration that comes of it. Raises
    RuntimeError with what fairseq says against the options.
    """
    from fairseq import options, tasks
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    said = io.StringIO()
    arguments = ["data", "--task", "byte_level_lm", *task_options, *contestant.arguments]
    with _silence(said):
        try:
            parsed = options.parse_args_and_arch(options.get_training_parser(), [*arguments, *_smallest(contestant)])
        except SystemExit as error:
            raise RuntimeError(f"{contestant.name}: {said.getvalue().strip().splitlines()[-1]}") from error
        cfg = convert_namespace_to_omegaconf(parsed)
        task = tasks.setup_task(cfg.task)

    @lru_cache(maxsize=None)
    def count(options: Tuple[str, ...]) -> int:
        model_cfg = copy.deepcopy(cfg.model)
        for option, value in zip(options[::2], options[1::2]):
            setattr(model_cfg, option.lstrip("-").replace("-", "_"), int(value))
        with _silence(io.StringIO()), torch.device("meta"):
            return sum(parameter.numel() for parameter in task.build_model(model_cfg).parameters())

    return count


def _smallest(contestant: Contestant) -> Tuple[str, ...]:
    return size_options(contestant, contestant.step) if contestant.width else ()


@contextlib.contextmanager
def _silence(said: io.StringIO):
    """fairseq's words while it parses and builds."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            yield
    finally:
        logging.disable(before)


def find_sizes(chosen, target: int, window: int, chunk: int) -> Dict[str, Size]:
    """Sizes of all contestants by name; one that brings its own size is only counted."""
    sizes = {}
    for contestant in chosen:
        task_options = ("--tokens-per-sample", str(chunk if contestant.streaming else window))
        count = counter(contestant, task_options)
        if contestant.width:
            sizes[contestant.name] = find_size(contestant, target, count)
        else:
            sizes[contestant.name] = Size((), count(()))
    return sizes
