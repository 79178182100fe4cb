"""Nats of every token of a split, in file order, by fairseq's own scorer, for any of fairseq's language models."""

import os
from typing import Any, Dict, Iterator, List, Optional

import numpy as np
import torch
from fairseq import checkpoint_utils, utils
from fairseq.dataclass.utils import overwrite_args_by_name
from fairseq.sequence_scorer import SequenceScorer
from tqdm import tqdm

from fairseq_sharnn.compat.gpu import check_cards
from fairseq_sharnn.data.corpora.base import Corpus
from fairseq_sharnn.data.text.folder import MANIFEST, read_manifest
from fairseq_sharnn.data.text.prepare import unknown_names
from fairseq_sharnn.data.text.spans import Spans, read_spans, words_of_tokens
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.evaluation.dynamic import STATIC, DynamicSettings
from fairseq_sharnn.evaluation.scale import Scale, spelling_cost
from fairseq_sharnn.tasks.byte_level_lm import ByteLevelLMTask
from fairseq_sharnn.tasks.streaming import StreamingTask
from fairseq_sharnn.tasks.streaming_lm import StreamingLMConfig, StreamingLMTask, has_dictionary, load_dictionary

MOST_PROBABILITIES = 1 << 27  # numbers in one softmax: half a gigabyte


class Scorer:
    """A model, loaded for a DATA folder, that scores the folder's splits.

    Raises UsageError when the checkpoint cannot be loaded, is not a language model, or has another tokenization.
    """

    def __init__(self, checkpoint: str, data: str, cpu: bool = False, fp16: bool = False):
        _check_file(checkpoint)
        state = checkpoint_utils.load_checkpoint_to_cpu(checkpoint)
        _check_kind(checkpoint, state, data)
        trained_on = _replace_data(state, data)
        models, self.cfg, task = checkpoint_utils.load_model_ensemble_and_task(
            [checkpoint], {"data": data}, state=state
        )
        self.model = models[0]
        if not hasattr(self.model, "decoder") or hasattr(self.model, "encoder"):
            raise UsageError(f"checkpoint {checkpoint} is not a language model")
        self.data = data
        self.note = ""  # what could not be checked
        if isinstance(task, StreamingTask):
            self.task = task
        else:
            self.task = _reader(task, data)
            self.note = _check_vocabulary(checkpoint, trained_on, data, self.task)
        self.task.cfg.data = data
        self.task.split_options = "--split"
        self.codec = self.task.codec  # here, so that a damaged tokenizer is refused before any work
        self.cuda = torch.cuda.is_available() and not cpu
        if self.cuda:
            check_cards()
        if fp16:
            self.model.half()
        if self.cuda:
            self.model.cuda()
        self.model.eval()
        self.model.make_generation_fast_()
        self.trained_length = int(getattr(self.cfg.task, "tokens_per_sample", None) or 1024)

    def corpus(self, split: str) -> Corpus:
        self.task.load_dataset(split)
        return self.task.dataset(split)

    def batches(
        self,
        corpus: Corpus,
        batch_size: Optional[int] = None,
        tokens_per_sample: Optional[int] = None,
        context_window: int = 0,
        dynamic: DynamicSettings = STATIC,
    ) -> Iterator[Dict[str, Any]]:
        """fairseq's samples over a corpus, on the model's device. Options as those of fairseq-eval-lm.

        dynamic: with a rate above 0, fairseq's scorer lets the model learn from each sample after it has scored it.
        """
        length = self.trained_length if tokens_per_sample is None else tokens_per_sample
        if length < 1:
            raise UsageError(f"--tokens-per-sample must be at least 1, but it is {length}")
        # fairseq-eval-lm subtracts the window from the length, and the task adds it again
        self.task.cfg.tokens_per_sample = length - context_window
        self.task.dynamic = dynamic
        batches = self.task.eval_lm_dataloader(
            corpus,
            batch_size=batch_size,
            max_positions=utils.resolve_max_positions(self.model.max_positions()),
            context_window=context_window,
        )
        for sample in batches:
            yield utils.move_to_cuda(sample) if self.cuda else sample

    def nats(self, corpus: Corpus, quiet: bool = True, **options) -> np.ndarray:
        """−ln p of each of a corpus's N tokens, in file order: [N] float64. Options as those of `batches`."""
        dictionary = self.task.target_dictionary
        scorer = SequenceScorer(dictionary, softmax_batch=max(1, MOST_PROBABILITIES // len(dictionary)))
        rows: Dict[int, List[np.ndarray]] = {}
        with tqdm(total=len(corpus), desc="scoring", unit="token", disable=quiet, mininterval=0.5) as bar:
            for sample in self.batches(corpus, **options):
                for row, hypotheses in zip(sample["id"].tolist(), scorer.generate([self.model], sample)):
                    rows.setdefault(row, []).append(hypotheses[0]["positional_scores"].double().cpu().numpy())
                bar.update(sample["ntokens"])
        return -in_file_order(rows, len(corpus))

    def spans(self, split: str) -> Spans:
        """Bytes and words that each token of a split covers. Raises UsageError unless they are the prepared text's."""
        corpus = self.corpus(split)
        if isinstance(self.task, ByteLevelLMTask):
            lengths = np.ones(len(corpus), dtype=np.uint8)
            return Spans(lengths, words_of_tokens(corpus.data, lengths))
        prefix = corpus.path[: -len(".bin")]
        spans, manifest = read_spans(prefix, len(corpus)), read_manifest(self.data)
        prepared = manifest.get("splits", {}).get(split, {}).get("bytes") if manifest is not None else None
        found = int(spans.bytes.sum(dtype=np.int64))
        if prepared not in (None, found):
            raise UsageError(
                f"{prefix}.bytes.npy has {found:,} bytes, but {MANIFEST} says {prepared:,}: prepare the text again"
            )
        return spans

    def unknown(self, split: str) -> List[str]:
        """Names of the words that are <unk> in a split, in file order. Raises UsageError unless each has a name."""
        corpus = self.corpus(split)
        if corpus.unit == "byte":
            return []
        prefix = corpus.path[: -len(".bin")]
        names = list(unknown_names(prefix))
        count = int(np.count_nonzero(corpus.data == self.task.target_dictionary.unk()))
        if len(names) != count:
            raise UsageError(
                f"{prefix}.unknown names {len(names):,} words, but {corpus.path} has {count:,} <unk>: without their "
                "names they would cost nothing; prepare the text again"
            )
        return names

    def check_split(self, split: str) -> None:
        """Raises UsageError now for what `scale` needs and the DATA folder lacks, before hours of scoring."""
        self.spans(split)
        self.unknown(split)

    def scale(self, split: str, nats: np.ndarray) -> Scale:
        """The figures of a split from the nats of its tokens."""
        spans, names = self.spans(split), self.unknown(split)
        return Scale(
            model_nats=float(nats.sum()),
            spelling_nats=spelling_cost(names),
            tokens=len(nats),
            bytes=int(spans.bytes.sum(dtype=np.int64)),
            words=int(spans.words.sum(dtype=np.int64)),
            unknown=len(names),
        )


def in_file_order(rows: Dict[int, List[np.ndarray]], size: int) -> np.ndarray:
    """Values [N] of all places, from the values of each row. Row ids (lanes or blocks) count stretches of the file."""
    values = np.concatenate([part for row in sorted(rows) for part in rows[row]])
    assert len(values) == size, "each token is scored once"
    return values


def _check_file(checkpoint: str) -> None:
    if not os.path.isfile(checkpoint):
        raise UsageError(f"checkpoint {checkpoint} does not exist")


def _check_kind(checkpoint: str, state: Dict, data: str) -> None:
    """Raises UsageError if a byte-level checkpoint meets a tokenized folder, or the reverse."""
    manifest = read_manifest(data)
    if manifest is None or state.get("cfg") is None:
        return
    on_bytes = state["cfg"]["task"]["_name"] == "byte_level_lm"
    if on_bytes != (manifest["kind"] == "bytes"):
        kind = "bytes" if on_bytes else "words or word pieces"
        raise UsageError(
            f"checkpoint {checkpoint} was trained on {kind}, but DATA {data} was prepared by scripts/prepare_text.py "
            f"{manifest['kind']}: use the folder that it was trained on, or one prepared with the same tokenizer"
        )


def _replace_data(state: Dict, data: str) -> str:
    """Set a loaded checkpoint's DATA folder. Returns the folder that it was trained on."""
    arguments, cfg = state.get("args"), state.get("cfg")
    trained_on = getattr(arguments, "data", None) if cfg is None else cfg["task"].get("data")
    if arguments is not None:
        arguments.data = data
    if cfg is not None:
        overwrite_args_by_name(cfg, {"data": data})
    return trained_on or ""


def _check_vocabulary(checkpoint: str, trained_on: str, data: str, task: StreamingLMTask) -> str:
    """Compare the vocabulary of DATA with that of the folder that the checkpoint was trained on, if it is still there.

    fairseq's own checkpoints keep no vocabulary. Returns a note when the folder is not there. Raises UsageError when
    the vocabularies differ.
    """
    folder = next((folder for folder in utils.split_paths(trained_on) if folder), "")
    if not has_dictionary(folder):
        return (
            f"checkpoint {checkpoint} keeps no vocabulary, and the folder that it was trained on ({folder or 'unnamed'}) "
            f"has no dict.txt here: that DATA {data} is of the same vocabulary could not be verified"
        )
    if load_dictionary(folder).symbols != task.dictionary.symbols:
        raise UsageError(
            f"checkpoint {checkpoint} was trained on {folder}, of another vocabulary than that of DATA {data}: use the "
            "folder that it was trained on, or one prepared with the same tokenizer"
        )
    return ""


def _reader(task, data: str) -> StreamingLMTask:
    """Our own task, to read DATA for a model of fairseq's language_modeling (which drops ends of files)."""
    dictionary = getattr(task, "dictionary", None)
    if dictionary is None or type(task).__name__ != "LanguageModelingTask":
        raise UsageError(
            f"checkpoints of fairseq's task {type(task).__name__} cannot be evaluated here, only those of byte_level_lm, "
            "streaming_lm and language_modeling"
        )
    return StreamingLMTask(StreamingLMConfig(data=data), dictionary)
