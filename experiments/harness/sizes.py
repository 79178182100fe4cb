"""Widths that bring a model to a number of parameters. Parameters are counted on models that fairseq really builds."""

import contextlib
import copy
import io
import logging
from functools import lru_cache
from typing import Callable, Sequence, Tuple

from fairseq_sharnn.registration import register

# Parameters of a model with these size options of fairseq-train, such as ("--decoder-embed-dim", "64").
Count = Callable[[Tuple[str, ...]], int]


def nearest_widths(parameters: Callable[[int], int], target: int, step: int, widest: int = 1 << 14) -> Tuple[int, int]:
    """The widths, multiples of `step`, whose parameters come nearest to `target` from below and from above.

    parameters: the count at a width; it grows with the width. Both are the same width at an end of the range.
    """
    low = high = step
    while parameters(high) < target and high < widest:
        low, high = high, high * 2
    while high - low > step:
        middle = (low + high) // 2 // step * step
        low, high = (middle, high) if parameters(middle) < target else (low, middle)
    return low, high


def nearest_inner_width(parameters: Callable[[int], int], target: int) -> int:
    """The inner width of a feed-forward layer, a multiple of 8, whose parameters come nearest to `target`.

    parameters: the count at an inner width; it grows linearly. Two models are counted.
    """
    one, two = parameters(8), parameters(16)
    return max(8, round((target - one) / (two - one) + 1) * 8)


def parameter_counter(arguments: Sequence[str], sizes: Sequence[str] = ()) -> Count:
    """Counts parameters of the model that fairseq-train builds, shared ones once, on a device without memory.

    arguments: the task, the architecture and its options. sizes: options for any allowed size; the command line is parsed
    once with them, and for each count they are set anew in the configuration. Raises RuntimeError with fairseq's own words
    if it does not accept the options.
    """
    import torch
    from fairseq import options, tasks
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    register()
    output = io.StringIO()
    with _silent(output):
        try:
            parsed = options.parse_args_and_arch(options.get_training_parser(), ["data", *arguments, *sizes])
        except SystemExit as error:
            raise RuntimeError(output.getvalue().strip().splitlines()[-1]) from error
        cfg = convert_namespace_to_omegaconf(parsed)
        task = tasks.setup_task(cfg.task)

    @lru_cache(maxsize=None)
    def count(options: Tuple[str, ...]) -> int:
        model_cfg = copy.deepcopy(cfg.model)
        for option, value in zip(options[::2], options[1::2]):
            setattr(model_cfg, option.lstrip("-").replace("-", "_"), int(value))
        with _silent(io.StringIO()), torch.device("meta"):
            return sum(parameter.numel() for parameter in task.build_model(model_cfg).parameters())

    return count


@contextlib.contextmanager
def _silent(output: io.StringIO):
    """Catch what fairseq prints and logs while it parses and builds."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            yield
    finally:
        logging.disable(before)
