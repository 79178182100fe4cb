"""Inside words: what their first piece costs and the later ones, and whether whole words are guessed.

A word is what stands between white bytes; its tokens are those from its first byte to its last. Tokens without any
other than white bytes (line ends, spaces of their own, marks of spacing) are `between`.
"""

from typing import Callable, Dict, List, NamedTuple, Sequence

import numpy as np
import torch

from fairseq_sharnn.data.corpora.base import Corpus
from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary
from fairseq_sharnn.data.text.spans import WHITE, Spans, positions_in_words
from fairseq_sharnn.evaluation.scoring import Scorer, in_file_order

DEEPEST = 8  # positions 8 and later are one


class Places(NamedTuple):
    """For each of N tokens: number of the word it belongs to (−1: between words), and its position in it (from 0)."""

    word: np.ndarray
    position: np.ndarray


def places_of(text: np.ndarray, spans: Spans) -> Places:
    """Which word each token belongs to. text: the bytes (uint8) that the tokens cover, one after the other.

    A token that ends one word and begins the next is the next one's.
    """
    ends = np.cumsum(spans.bytes, dtype=np.int64)
    black = np.concatenate([[0], np.cumsum(~WHITE[text], dtype=np.int64)])
    inside = black[ends] > black[ends - spans.bytes]
    word = np.where(inside, np.cumsum(spans.words, dtype=np.int64) - 1, -1)
    position = np.full(len(word), -1, dtype=np.int64)
    position[inside] = positions_in_words(np.diff(word[inside], prepend=-1))
    return Places(word, position)


def guesses_of(scored: Scorer, corpus: Corpus, **options) -> np.ndarray:
    """For each token the one that the model, given all tokens before, finds the likeliest: [N] int64."""
    rows: Dict[int, List[np.ndarray]] = {}
    padding = scored.task.target_dictionary.pad()
    with torch.no_grad():
        for sample in scored.batches(corpus, **options):
            out = scored.model(**sample["net_input"])
            best = scored.model.get_normalized_probs(out, log_probs=True).argmax(-1)
            for row, start, guess, target in zip(
                sample["id"].tolist(), sample["start_indices"], best, sample["target"]
            ):
                kept = target[start:] != padding
                rows.setdefault(row, []).append(guess[start:][kept].cpu().numpy())
    return in_file_order(rows, len(corpus))


def speller(task) -> Callable[[Sequence[int]], List[bytes]]:
    """The bytes that each id stands for behind the ids before it."""
    if isinstance(task.dictionary, ByteDictionary):
        return lambda ids: [task.dictionary.decode_bytes([index]) for index in ids]
    return task.codec.tokenizer.spell


def last_tokens(places: Places) -> np.ndarray:
    """For each word its last token; -1 for a word without a token of its own: [words] int64."""
    inside = np.flatnonzero(places.word >= 0)
    last = np.full(int(places.word.max(initial=-1)) + 1, -1, dtype=np.int64)
    last[places.word[inside]] = inside  # in order: the last one stays
    return last


def closed_words(spell: Callable, ids: np.ndarray, guesses: np.ndarray, places: Places) -> np.ndarray:
    """For each word whether the likeliest token behind it ends it, by a white byte or a line's end: [words] bool.

    Where a space is not in the tokens but in a rule (words), the rule is asked about the word's last token and the guess
    alone. The text's end ends a word.
    """
    last = last_tokens(places)
    closed = np.ones(len(last), dtype=bool)
    asked = np.flatnonzero((last >= 0) & (last + 1 < len(ids)))
    pairs, number = np.unique(
        np.stack([ids[last[asked]], guesses[last[asked] + 1]], axis=1), axis=0, return_inverse=True
    )
    behind = (spell(pair)[-1] for pair in pairs.tolist())
    found = np.array([text != b"" and WHITE[text[0]] for text in behind], dtype=bool)
    closed[asked] = found[number.reshape(-1)]
    return closed


def inside_words(nats: np.ndarray, hits: np.ndarray, closed: np.ndarray, known: np.ndarray, places: Places) -> Dict:
    """The figures of a split of N tokens.

    A word is guessed when each of its tokens, and each mark between them, is the likeliest after the ones before, and so
    is an end behind it: then, and only then, does the model write this word by itself, fed nothing of it, taking the
    likeliest token each time. nats, hits (the likeliest token is the true one), known (false for <unk>, which says no
    word): [N]. closed: of each word, see `closed_words`.
    """
    bits, good = nats / np.log(2), hits & known
    inside = places.position >= 0
    words = int(places.word.max(initial=-1)) + 1
    by_position = []
    for position in range(DEEPEST):
        here = places.position == position if position < DEEPEST - 1 else places.position >= position
        if here.any():
            by_position.append(
                {
                    "position": position + 1,
                    "tokens": int(here.sum()),
                    "bits": float(bits[here].mean()),
                    "accuracy": float(good[here].mean()),
                }
            )
    first, later = places.position == 0, places.position > 0
    # from the first token of a word to its last, marks between them included
    since = np.maximum.accumulate(places.word)
    until = np.minimum.accumulate(np.where(inside, places.word, words)[::-1])[::-1]
    within = (since == until) & (since >= 0)
    missed = ~closed
    missed[since[within & ~good]] = True
    many = np.bincount(places.word[inside], minlength=words) > 1
    total = float(bits[inside].sum())
    return {
        "words": words,
        "bits_per_word": float(bits.sum()) / max(1, words),
        "tokens_per_word": float(inside.sum()) / max(1, words),
        "by_position": by_position,
        "first_share": float(bits[first].sum()) / total,
        "hidden_share": float(bits[later].sum()) / total,
        "later_tokens_share": float(later.sum()) / float(inside.sum()),
        "between_share": 1.0 - total / float(bits.sum()),
        "first_accuracy": float(good[first].mean()),
        "later_accuracy": float(good[later].mean()) if later.any() else None,
        "token_accuracy": float(good[inside].mean()),
        "word_accuracy": 1.0 - float(missed.mean()),
        "word_accuracy_of_several": 1.0 - float(missed[many].mean()) if many.any() else None,
    }


def known_tokens(scored: Scorer, corpus: Corpus) -> np.ndarray:
    """Where a corpus does not have <unk>."""
    if corpus.unit == "byte":
        return np.ones(len(corpus), dtype=bool)
    return corpus.ids(np.arange(len(corpus))) != scored.task.target_dictionary.unk()
