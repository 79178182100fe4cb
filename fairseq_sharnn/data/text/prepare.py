"""From text files to a DATA folder: learn a vocabulary, write the splits, decode them back and compare.

Everything is made in a temporary folder next to OUT. The folder takes the name OUT when all of it has been checked.
"""

import hashlib
import os
import shutil
from collections import Counter
from contextlib import contextmanager
from typing import Callable, ContextManager, Dict, Iterator, Optional

import numpy as np
import torch
from fairseq.data import Dictionary, indexed_dataset

from fairseq_sharnn.data.corpora.prepare import copy_file, source_size
from fairseq_sharnn.data.corpora.tokens import TokenCorpus
from fairseq_sharnn.data.text.folder import MODEL, load_tokenizer, write_manifest
from fairseq_sharnn.data.text.learn import learn_pieces
from fairseq_sharnn.data.text.lines import lines_of, short
from fairseq_sharnn.data.text.pieces import PieceModel, PieceTokenizer, dictionary_of
from fairseq_sharnn.data.text.recognise import recognise
from fairseq_sharnn.data.text.spacing import note_on
from fairseq_sharnn.data.text.spans import Spans, count_words, words_of_tokens, write_spans
from fairseq_sharnn.data.text.words import MARKS, WordRule, WordTokenizer
from fairseq_sharnn.errors import UsageError

# A bar over so many bytes, which yields `advance`.
Progress = Callable[[int, str], ContextManager[Callable[[int], None]]]


@contextmanager
def staged(out: str) -> Iterator[str]:
    """A folder to work in, which becomes `out` at the end and vanishes on any error.

    Raises UsageError when `out` is there already and not an empty folder, or cannot be made.
    """
    out = os.path.abspath(out)
    if os.path.exists(out) and (not os.path.isdir(out) or os.listdir(out)):
        raise UsageError(f"OUT {out} is there already and not an empty folder: name a new one, or delete it")
    parent, name = os.path.split(out)
    work = os.path.join(parent, f".{name}.{os.getpid()}.tmp")
    try:
        os.makedirs(work)
        try:
            yield work
            os.replace(work, out)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or out}: {error.strerror or error}") from None


def prepare_bytes(out: str, sources: Dict[str, str], progress: Progress) -> Dict:
    """Raw bytes for `--task byte_level_lm`: the files as they are, under their splits' names."""
    with staged(out) as work:
        splits = {}
        for split, source in sources.items():
            with progress(source_size(source), f"copying {split}") as advance:
                copy_file(source, os.path.join(work, split), advance)
            data = np.memmap(os.path.join(work, split), dtype=np.uint8, mode="r")
            words = count_words(data)
            splits[split] = {"bytes": len(data), "tokens": len(data), "words": words, "unknown": 0, **_sha(source)}
        manifest = {"kind": "bytes", "settings": {}, "splits": splits, "vocabulary": 256, **_note(sources)}
        write_manifest(work, manifest)
    return manifest


def prepare_words(
    out: str,
    sources: Dict[str, str],
    progress: Progress,
    style: str = "auto",
    size: Optional[int] = None,
    min_count: Optional[int] = None,
    size_option: str = "--vocab-size",
    min_count_option: Optional[str] = "--min-count",
) -> Dict:
    """Words: `style` as in WordRule, or recognised from the text; the `size` most frequent, of `min_count` or more.

    size_option, min_count_option: what the calling program calls these two, for messages (None: it has no such option).
    """
    rule, own_unknowns = recognise(sources["train"], style)
    with staged(out) as work:
        counts: Counter = Counter()
        with progress(source_size(sources["train"]), "counting words") as advance:
            for part in lines_of(sources["train"], advance):
                counts.update(rule.names(part))
        if min_count is None:
            min_count = 1 if own_unknowns else 2
        try:
            dictionary = word_dictionary(counts, size, min_count)
        except TooFewWords as error:
            least = f"with {min_count_option} {min_count}"
            if min_count_option is None:
                least = f"seen {min_count} times or more; choose at most {error.available}"
            raise UsageError(
                f"{size_option} {size} is larger than the training text allows: it has {error.available} words {least}"
            ) from None
        dictionary.save(os.path.join(work, "dict.txt"))
        splits = {}
        for split, source in sources.items():
            with progress(source_size(source), f"writing {split}") as advance:
                splits[split] = _write_words(work, split, source, rule, dictionary, advance)
        tokenizer = WordTokenizer(rule, dictionary)
        return _finish(work, sources, splits, {"kind": "word", "settings": tokenizer.settings()}, progress)


def prepare_pieces(
    out: str,
    sources: Dict[str, str],
    progress: Progress,
    kind: str = "unigram",
    size: Optional[int] = None,
    model_path: Optional[str] = None,
    size_option: str = "--vocab-size",
) -> Dict:
    """Word pieces of a sentencepiece model, trained on the train split or given. `size`: number of all pieces.

    Without `size` 8,000, or as many as the text allows. size_option: what the calling program calls `size`, for messages.
    """
    given = None if model_path is None else PieceModel(_read(model_path), model_path)
    if given is not None and size not in (None, given.processor.get_piece_size()):
        raise UsageError(
            f"{model_path} has a vocabulary of {given.processor.get_piece_size()} pieces, not the {size} of {size_option}: "
            f"leave {size_option} out, or train a model by leaving out --model"
        )
    learnt = {}  # of a model that is given, its file knows
    with staged(out) as work:
        if given is None:
            for _ in lines_of(sources["train"]):  # sentencepiece would hide what is wrong with the text
                pass
            with progress(source_size(sources["train"]), f"learning pieces ({kind})") as advance:
                proto, coverage = learn_pieces(
                    lambda: (part.text for part in lines_of(sources["train"], advance)),
                    kind,
                    size,
                    size_option=size_option,
                )
            given, learnt = PieceModel(proto, MODEL), {"model_type": kind, "character_coverage": coverage}
        with open(os.path.join(work, MODEL), "wb") as file:
            file.write(given.proto)
        digest = hashlib.sha256(given.proto).hexdigest()
        counts: Counter = Counter()
        with progress(source_size(sources["train"]), "counting pieces") as advance:
            for part in short(lines_of(sources["train"], advance)):
                counts.update(given.segment(part.text))
        dictionary = dictionary_of(given, counts)
        dictionary.save(os.path.join(work, "dict.txt"))
        tokenizer, splits = PieceTokenizer(given, dictionary, MODEL), {}
        for split, source in sources.items():
            items = ((tokenizer.encode_line(part.text), part) for part in short(lines_of(source)))
            with progress(source_size(source), f"writing {split}") as advance:
                splits[split] = {**_write_split(work, split, items, dictionary, advance), "unknown": 0}
        settings = {"vocab_size": given.processor.get_piece_size(), **learnt}
        manifest = {"kind": "sentencepiece", "settings": settings, "model_sha256": digest}
        return _finish(work, sources, splits, manifest, progress)


class TooFewWords(ValueError):
    """A text has fewer words than a vocabulary was to have: only `available`."""

    def __init__(self, available: int):
        super().__init__(available)
        self.available = available


def word_dictionary(counts: Counter, size: Optional[int], min_count: int) -> Dictionary:
    """The most frequent names first; the marks always. Raises TooFewWords when there are fewer than `size`."""
    kept = {name: count for name, count in counts.items() if count >= min_count or name in MARKS}
    kept.update({mark: kept.get(mark, 0) for mark in MARKS})
    if size is not None and size > len(kept):
        raise TooFewWords(len(kept))
    dictionary = Dictionary()
    ordered = sorted(kept.items(), key=lambda item: (item[0] not in MARKS, -item[1], item[0]))[:size]
    for name, count in sorted(ordered, key=lambda item: (-item[1], item[0])):
        dictionary.add_symbol(name, n=count)
    return dictionary


def _write_words(work, split, source, rule: WordRule, dictionary: Dictionary, advance) -> Dict:
    """One split of words, and the names of its unknown ones in their order."""
    unknown = 0
    with open(os.path.join(work, f"{split}.unknown"), "w", encoding="utf-8") as kept:

        def items():
            nonlocal unknown
            for part in lines_of(source):
                ids = []
                for name in rule.names(part):
                    index = dictionary.index(name)
                    if index == dictionary.unk():
                        kept.write(f"{name}\n")
                        unknown += 1
                    ids.append(index)
                yield ids, part

        written = _write_split(work, split, items(), dictionary, advance)
    return {**written, "unknown": unknown}


def _write_split(work, split, items, dictionary: Dictionary, advance) -> Dict:
    """Write a split through fairseq's builder: one item a line (or part of a long one), </s> for its end."""
    prefix, tokens = os.path.join(work, split), 0
    builder = indexed_dataset.make_builder(f"{prefix}.bin", "mmap", vocab_size=len(dictionary))
    for ids, part in items:
        if part.last and part.ended:
            ids = [*ids, dictionary.eos()]
        if ids:
            builder.add_item(torch.tensor(ids, dtype=torch.int64))
        tokens += len(ids)
        advance(len(part.text.encode()) + (part.last and part.ended))
    builder.finalize(f"{prefix}.idx")
    return {"tokens": tokens}


def _finish(work, sources, splits, manifest, progress: Progress) -> Dict:
    """Decode every split from what is on disk, compare it with its source, and record what each token covers."""
    manifest = {**manifest, "splits": splits}
    write_manifest(work, manifest)
    dictionary = Dictionary.load(os.path.join(work, "dict.txt"))
    tokenizer = load_tokenizer(work, dictionary)
    for split, source in sources.items():
        with progress(source_size(source), f"checking {split}") as advance:
            spans = check_split(os.path.join(work, split), source, tokenizer, advance)
        write_spans(os.path.join(work, split), spans)
        totals = {"bytes": int(spans.bytes.sum()), "words": int(spans.words.sum())}
        splits[split] = {**splits[split], **totals, **_sha(source)}
    manifest = {**manifest, "vocabulary": len(dictionary), **_note(sources)}
    write_manifest(work, manifest)
    return manifest


def unknown_names(prefix: str) -> Iterator[str]:
    """Names of a split's unknown words, in their order, only those that are complete."""
    if os.path.exists(f"{prefix}.unknown"):
        with open(f"{prefix}.unknown", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.endswith("\n"):
                    yield line[:-1]


def check_split(prefix: str, source: str, tokenizer, advance: Callable[[int], None]) -> Spans:
    """What each token covers. Raises UsageError unless all of them together are the source, byte for byte."""
    data = np.memmap(source, dtype=np.uint8, mode="r")
    corpus = TokenCorpus(prefix, len(tokenizer.dictionary))
    unknown, continues, place = unknown_names(prefix), False, 0
    covered = np.empty(len(corpus), dtype=np.uint32)
    for start, size in zip(np.cumsum(corpus.sizes, dtype=np.int64) - corpus.sizes, corpus.sizes):
        ids = corpus.ids(np.arange(start, start + size)).tolist()
        spelled = tokenizer.spell(ids, unknown, continues)
        text = b"".join(spelled)
        if text != data[place : place + len(text)].tobytes():
            raise UsageError(
                f"{source} does not come back from its tokens near byte {place:,} (this is a fault of "
                "scripts/prepare_text.py, not of the text): nothing is written"
            )
        place += len(text)
        covered[start : start + size] = [len(part) for part in spelled]
        continues = ids[-1] != tokenizer.dictionary.eos()
        advance(len(text))
    if place != len(data):
        raise UsageError(f"{source} is longer than its tokens, or has changed meanwhile: nothing is written")
    return Spans(covered, words_of_tokens(data, covered))


def _note(sources: Dict[str, str]) -> Dict[str, str]:
    """What a reader of figures per word must know of the text, where there is anything."""
    note = note_on(sources["train"])
    return {} if note is None else {"note": note}


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None


def _sha(path: str) -> Dict[str, str]:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return {"sha256": digest.hexdigest()}
