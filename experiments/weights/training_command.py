"""The `fairseq-train` command of a checkpoint, written from its configuration and checked against it."""

import shlex
from typing import Any, Dict, Iterator, List, Tuple

from fairseq import options

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.registration import register

Sections = Dict[str, Dict[str, Any]]
PARTS = ("model", "task", "dataset", "optimization", "optimizer", "lr_scheduler", "criterion", "checkpoint", "common")
CHOICES = {"arch": "model", "task": "task", "optimizer": "optimizer", "lr-scheduler": "lr_scheduler"}
PLACES = ("data", "save_dir", "user_dir")  # what differs from machine to machine


def training_command(cfg: Sections) -> List[str]:
    """The words of the command; DATA and the folder of checkpoints are names to replace.

    cfg: the configuration in a checkpoint. The command has the options that differ from fairseq's defaults, so it is short.
    Raises UsageError if no options give this configuration.
    """
    register()
    words = [word for option, part in CHOICES.items() for word in (f"--{option}", str(cfg[part]["_name"]))]
    while True:
        different = list(_differences(_parsed(words), cfg))
        if not different:
            return ["fairseq-train", "DATA", "--user-dir", "fairseq_sharnn", *words, "--save-dir", "checkpoints/books"]
        part, key, value = different[0]
        option = f"--{key.replace('_', '-')}"
        if option in words or value is None or value is False:
            raise UsageError(
                f"the configuration cannot be written as a command: no option gives {part}.{key} = {value}"
            )
        words += [option] if value is True else [option, _as_word(value)]


def in_lines(words: List[str], width: int = 110) -> List[str]:
    """A command in lines that a shell joins."""
    lines, line = [], ""
    for word in _with_values(words):
        if line and len(line) + len(word) + 3 > width:
            lines.append(f"{line} \\")
            line = "   "
        line = f"{line} {word}" if line else word
    return [*lines, line]


def _with_values(words: List[str]) -> Iterator[str]:
    """Options with their values, so that no line ends between them."""
    held = ""
    for word in words:
        if word.startswith("--") and held:
            yield held
            held = ""
        held = f"{held} {shlex.quote(word)}" if held else shlex.quote(word)
    yield held


def _parsed(words: List[str]) -> Dict[str, Any]:
    """What fairseq makes of the options, by their names."""
    return vars(options.parse_args_and_arch(options.get_training_parser(), input_args=["DATA", *words]))


def _differences(found: Dict[str, Any], wanted: Sections) -> Iterator[Tuple[str, str, Any]]:
    """(part, key, wanted value) of each value that differs. What fairseq copies from another value is left out."""
    for part in PARTS:
        for key, value in wanted[part].items():
            copied = key == "batch_size_valid" and value == wanted[part]["batch_size"]
            if not (key in PLACES or key.startswith("_") or copied or _same(found.get(key), value)):
                yield part, key, value


def _same(found: Any, wanted: Any) -> bool:
    """Whether two values mean the same. The parser leaves some flags out and some numbers as text."""
    if wanted is None or wanted is False:
        return not found
    return found == wanted or str(found) == _as_word(wanted)


def _as_word(value: Any) -> str:
    """A value as it is typed: 36000.0 as 36000, a list with commas."""
    if isinstance(value, list):
        return ",".join(map(_as_word, value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
