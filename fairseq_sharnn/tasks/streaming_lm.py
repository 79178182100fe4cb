"""`--task streaming_lm`: language modelling on words or word pieces, with state carried through the corpus."""

import os
from dataclasses import dataclass, field
from typing import Any, Dict, Optional

from fairseq.data import Dictionary
from fairseq.tasks import register_task

from fairseq_sharnn.data.codecs import TokenCodec
from fairseq_sharnn.data.corpora.base import split_path
from fairseq_sharnn.data.corpora.tokens import TokenCorpus
from fairseq_sharnn.data.text.folder import load_tokenizer
from fairseq_sharnn.data.text.tokenizer import SpaceTokenizer
from fairseq_sharnn.data.text.vocabulary import digest_of
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.tasks.streaming import StreamingConfig, StreamingTask, folders_of

MADE_BY = "scripts/prepare_text.py"


@dataclass
class StreamingLMConfig(StreamingConfig):
    data: Optional[str] = field(
        default=None,
        metadata={
            "help": "folder in fairseq's binarized format: dict.txt, train.bin, train.idx, ... "
            "(colon-separated folders, of the same dict.txt: one an epoch)"
        },
    )
    tokens_per_sample: int = field(
        default=1024, metadata={"help": "tokens in a chunk of truncated BPTT (or in a stateless model's window)"}
    )


@register_task("streaming_lm", dataclass=StreamingLMConfig)
class StreamingLMTask(StreamingTask):
    """Words or word pieces in fairseq's binarized format, on the lanes, chunks and evaluation of the byte-level task."""

    def __init__(self, cfg: StreamingLMConfig, dictionary: Dictionary, **kwargs):
        super().__init__(cfg, dictionary)
        self._codec: Optional[TokenCodec] = None

    @classmethod
    def setup_task(cls, cfg: StreamingLMConfig, **kwargs) -> "StreamingLMTask":
        """The task, with the dictionary of the (first) DATA folder. Raises UsageError when there is none, or another."""
        first, *others = folders_of(cfg.data)
        dictionary = load_dictionary(first)
        for folder in others:
            if has_dictionary(folder) and load_dictionary(folder).symbols != dictionary.symbols:
                raise UsageError(
                    f"DATA folders {first} and {folder} are of different vocabularies: prepare them with the same tokenizer"
                )
        return cls(cfg, dictionary)

    def split_file(self, folder: str, split: str) -> str:
        return split_path(folder, split, "{}.bin", MADE_BY, self.split_options)

    def open_corpus(self, folder: str, split: str) -> TokenCorpus:
        path = self.split_file(folder, split)
        return TokenCorpus(path[: -len(".bin")], len(self.dictionary))

    # What a checkpoint keeps of the vocabulary, so that ids are never read as another dictionary's.

    def state_dict(self) -> Dict[str, Any]:
        return {"vocabulary": digest_of(self.dictionary)}

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        self.check_checkpoint(state_dict, "the checkpoint")

    def check_checkpoint(self, task_state: Dict[str, Any], path: str) -> None:
        """Raises UsageError when a checkpoint's task had another vocabulary than this one."""
        theirs = (task_state or {}).get("vocabulary")
        if theirs is not None and theirs != digest_of(self.dictionary):
            raise UsageError(
                f"{path} was trained on another vocabulary than that of DATA {self.cfg.data}: use the folder that it was "
                "trained on, or one prepared with the same tokenizer"
            )

    @property
    def codec(self) -> TokenCodec:
        """By the tokenizer of the DATA folder. Symbols between spaces where fairseq-preprocess made the folder."""
        if self._codec is None:
            tokenizer = load_tokenizer(folders_of(self.cfg.data)[0], self.dictionary)
            self._codec = TokenCodec(self.dictionary, tokenizer or SpaceTokenizer(self.dictionary))
        return self._codec


def has_dictionary(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "dict.txt"))


def load_dictionary(folder: str) -> Dictionary:
    """The dictionary of a DATA folder. Raises UsageError when it is missing or damaged."""
    path = os.path.join(folder, "dict.txt")
    if not has_dictionary(folder):
        split_path(folder, "")
        raise UsageError(
            f"DATA folder {folder} has no dict.txt: give one in fairseq's binarized format, as {MADE_BY} makes it (raw "
            "bytes are read by --task byte_level_lm)"
        )
    try:
        return Dictionary.load(path)
    except Exception as error:  # fairseq raises bare Exceptions here
        raise UsageError(f"{path} is not a dictionary of fairseq: {error}") from None
