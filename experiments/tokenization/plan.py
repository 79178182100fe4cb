"""What is compared: one text, one budget, several tokenizations, two models."""

import argparse
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Callable, Dict, List, Tuple

from fairseq_sharnn.errors import UsageError

MODELS = {"sha_rnn": "SHA-RNN", "transformer_lm": "Transformer"}  # architecture, and the name that a report shows


def option(default: Any, help: str, kind: Callable[[str], Any] = int, least: float = 0) -> Any:
    """A field that is also an option of the command: its default, its help, its type, and a limit.

    least: the smallest value; 0: any value above 0.
    """
    return field(default=default, metadata={"help": help, "type": kind, "least": least})


@dataclass(frozen=True)
class Plan:
    """The whole study as plain values; another plan needs another output folder.

    text, sha256: the name and the digest of the text. Every other field is an option of scripts/tokenization_study.py.
    """

    text: str
    sha256: str
    piece_sizes: Tuple[int, ...] = option((500, 2000, 8000), "sizes of the sentencepiece vocabularies", str)
    words: int = option(8000, "size of the word vocabulary")
    width: int = option(128, "width of both models")
    # the head of SHA-RNN is in the second-to-last layer
    layers: int = option(2, "layers of both models", least=2)
    window: int = option(128, "bytes of text that a chunk covers, in every tokenization")
    lanes: int = option(16, "chunks in an update")
    passes: float = option(1.0, "passes over the training text", float)
    attack_bytes: int = option(40000, "bytes of the test text for other segmentations of the whole")
    attack_words: int = option(1000, "words of the test text for the searches word by word")
    best: int = option(64, "n of the n best segmentations of a word")
    seed: int = option(1, "seed of the models and of the sampled segmentations", least=float("-inf"))

    @property
    def tokenizations(self) -> List[str]:
        """Names of the tokenizations. The longest runs come first, so that the last ones to end are short."""
        return ["bytes", "words", *(f"pieces-{size}" for size in self.piece_sizes)]

    @property
    def runs(self) -> List["StudyRun"]:
        """Every model on every tokenization."""
        return [StudyRun(tokenization, model) for tokenization in self.tokenizations for model in MODELS]

    def identity(self) -> Dict[str, Any]:
        """What must be equal for an output folder to be used again."""
        return asdict(self)


@dataclass(frozen=True)
class StudyRun:
    """One model on one tokenization."""

    tokenization: str
    model: str

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.tokenization}-{self.model}"


def flag_of(name: str) -> str:
    """The option of a field."""
    return f"--{name.replace('_', '-')}"


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each field of a plan that is one."""
    for item in fields(Plan):
        if item.metadata:
            default = ",".join(map(str, item.default)) if isinstance(item.default, tuple) else item.default
            parser.add_argument(
                flag_of(item.name),
                type=item.metadata["type"],
                default=default,
                help=f"{item.metadata['help']} (default: %(default)s)",
            )


def make_plan(args: argparse.Namespace, text: str, sha256: str) -> Plan:
    """The plan of a command line. Raises UsageError that names the option with a wrong value."""
    values = {}
    for item in fields(Plan):
        if item.metadata:
            flag, value = flag_of(item.name), getattr(args, item.name)
            values[item.name] = _parse_sizes(flag, value) if isinstance(item.default, tuple) else value
            for number in values[item.name] if isinstance(item.default, tuple) else (value,):
                check_least(flag, number, item.metadata["least"])
    return Plan(text=text, sha256=sha256, **values)


def check_least(flag: str, value: float, least: float = 0) -> None:
    """Raises UsageError if an option's value is too small. least: the smallest value; 0: any value above 0."""
    if least == 0 and not value > 0:
        raise UsageError(f"{flag} must be above 0, but it is {value}")
    if value < least:
        raise UsageError(f"{flag} must be at least {least}, but it is {value}")


def _parse_sizes(flag: str, text: str) -> Tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise UsageError(f"{flag} takes whole numbers such as 500,2000, not {text}") from None
