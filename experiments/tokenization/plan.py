"""What is compared: one text, one budget, several tokenizations, two models."""

import json
import os
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Tuple

from fairseq_sharnn.errors import UsageError


@dataclass(frozen=True)
class Plan:
    """The whole study as plain values; another plan needs another output folder.

    text, sha256: the file and its digest. piece_sizes: vocabularies of sentencepiece (unigram). words: size of the word
    vocabulary. width, layers: of both models. window: bytes of text in a chunk of the byte model; every other
    tokenization has as many tokens as cover that much. lanes: chunks in an update. passes: over the training text.
    attack_bytes: of the test text, for other segmentations of the whole; attack_words: for the searches word by word.
    best: n of the n best segmentations. seed: of the models and of the sampled segmentations.
    """

    text: str
    sha256: str
    piece_sizes: Tuple[int, ...]
    words: int
    width: int
    layers: int
    window: int
    lanes: int
    passes: float
    attack_bytes: int
    attack_words: int
    best: int
    seed: int

    @property
    def tokenizations(self) -> List[str]:
        return ["bytes", "words", *(f"pieces-{size}" for size in self.piece_sizes)]

    @property
    def models(self) -> List[str]:
        return ["sha_rnn", "transformer_lm"]

    @property
    def runs(self) -> List["Run"]:
        """Longest first, so that the last ones to finish are short."""
        return [Run(tokenization, model) for tokenization in self.tokenizations for model in self.models]


@dataclass(frozen=True)
class Run:
    """One model on one tokenization."""

    tokenization: str
    model: str

    @property
    def name(self) -> str:
        return f"{self.tokenization}-{self.model}"


@dataclass(frozen=True)
class Folder:
    """Where things lie: the report in `out`, what it is made of in `out/work`."""

    out: str

    @property
    def work(self) -> str:
        return os.path.join(self.out, "work")

    def raw(self, split: str) -> str:
        return os.path.join(self.work, "raw", split)

    def data(self, tokenization: str) -> str:
        return os.path.join(self.work, "data", tokenization)

    def run(self, run: Run) -> str:
        return os.path.join(self.work, "runs", run.name)

    def result(self, run: Run, step: str) -> str:
        return os.path.join(self.run(run), f"{step}.json")

    def claim(self, plan: Plan) -> None:
        """Make the folder this plan's. Raises UsageError when it is another's."""
        path = os.path.join(self.work, "plan.json")
        wanted = json.loads(json.dumps(asdict(plan)))
        try:
            os.makedirs(self.work, exist_ok=True)
            if os.path.exists(path):
                found = read_json(path)
                if found != wanted:
                    other = ", ".join(sorted(key for key in wanted if found.get(key) != wanted[key]))
                    raise UsageError(
                        f"{self.out} holds a study with other options ({other}): name another --out, or delete it"
                    )
            write_json(path, wanted)
        except OSError as error:
            raise UsageError(f"cannot write {error.filename or self.out}: {error.strerror}") from None


def write_json(path: str, value: Any) -> None:
    """Write a file whole."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
    os.replace(temporary, path)


def read_json(path: str) -> Dict:
    with open(path, encoding="utf-8") as file:
        return json.load(file)
