"""Inside words: the cost of their first token and of the later ones, and whether whole words are predicted.

A word is what stands between white bytes, in any language. Its tokens are those from its first byte to its last. Tokens
of white bytes only (line ends, single spaces, marks of spacing) are `between` words.
"""

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch

from experiments.tokenization.records import PositionFigures, WordFigures
from fairseq_sharnn.data.corpora.base import Corpus
from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary
from fairseq_sharnn.data.text.spans import WHITE, Spans, positions_in_words
from fairseq_sharnn.evaluation.scoring import Scorer, in_file_order

DEEPEST = 8  # positions 8 and later are counted together


class Places(NamedTuple):
    """For each of N tokens: the number of its word (−1: between words), and its position in the word (from 0)."""

    word: np.ndarray
    position: np.ndarray


def find_places(text: np.ndarray, spans: Spans) -> Places:
    """The word that each token belongs to. text: the bytes (uint8) that the tokens cover, in order.

    A token that ends one word and begins the next belongs to the next one.
    """
    ends = np.cumsum(spans.bytes, dtype=np.int64)
    black = np.concatenate([[0], np.cumsum(~WHITE[text], dtype=np.int64)])
    inside = black[ends] > black[ends - spans.bytes]
    word = np.where(inside, np.cumsum(spans.words, dtype=np.int64) - 1, -1)
    position = np.full(len(word), -1, dtype=np.int64)
    position[inside] = positions_in_words(np.diff(word[inside], prepend=-1))
    return Places(word, position)


def predict_tokens(scorer: Scorer, corpus: Corpus, **options) -> np.ndarray:
    """For each token the most likely one, given the true tokens before it: [N] int64."""
    rows: Dict[int, List[np.ndarray]] = {}
    padding = scorer.task.target_dictionary.pad()
    with torch.no_grad():
        for sample in scorer.batches(corpus, **options):
            out = scorer.model(**sample["net_input"])
            predicted = scorer.model.get_normalized_probs(out, log_probs=True).argmax(-1)
            for row, start, best, target in zip(
                sample["id"].tolist(), sample["start_indices"], predicted, sample["target"]
            ):
                kept = target[start:] != padding
                rows.setdefault(row, []).append(best[start:][kept].cpu().numpy())
    return in_file_order(rows, len(corpus))


def make_speller(task) -> Callable[[Sequence[int]], List[bytes]]:
    """A function from ids to the bytes that each stands for after the ids before it."""
    if isinstance(task.dictionary, ByteDictionary):
        return lambda ids: [task.dictionary.decode_bytes([index]) for index in ids]
    return task.codec.tokenizer.spell


def find_last_tokens(places: Places) -> np.ndarray:
    """For each word its last token; −1 for a word that has no token to itself: [words] int64."""
    inside = np.flatnonzero(places.word >= 0)
    last = np.full(int(places.word.max(initial=-1)) + 1, -1, dtype=np.int64)
    last[places.word[inside]] = inside  # in order: the last one stays
    return last


def find_closed_words(spell: Callable, ids: np.ndarray, predicted: np.ndarray, places: Places) -> np.ndarray:
    """For each word whether the most likely token after it ends it, by a white byte or a line end: [words] bool.

    Where spaces are not in the tokens but follow from a rule (words), the rule sees only the last token of the word and
    the predicted one. The end of the text ends a word.
    """
    last = find_last_tokens(places)
    closed = np.ones(len(last), dtype=bool)
    followed = np.flatnonzero((last >= 0) & (last + 1 < len(ids)))
    pairs, number = np.unique(
        np.stack([ids[last[followed]], predicted[last[followed] + 1]], axis=1), axis=0, return_inverse=True
    )
    after = (spell(pair)[-1] for pair in pairs.tolist())
    white = np.array([text != b"" and WHITE[text[0]] for text in after], dtype=bool)
    closed[followed] = white[number.reshape(-1)]
    return closed


def measure_words(
    nats: np.ndarray, hits: np.ndarray, closed: np.ndarray, known: np.ndarray, places: Places
) -> WordFigures:
    """The figures of a split of N tokens.

    A word counts as predicted if greedy decoding from the text before it would write exactly this word and then end it.

    nats: [N]. hits: whether the most likely token is the true one, [N]. known: false for <unk>, which stands for no
    word, [N]. closed: for each word, see `find_closed_words`.
    """
    bits, right = nats / np.log(2), hits & known
    inside = places.position >= 0
    first, later = places.position == 0, places.position > 0
    words = int(places.word.max(initial=-1)) + 1
    predicted = _predicted_words(right, closed, places, words)
    several = np.bincount(places.word[inside], minlength=words) > 1
    total = float(bits[inside].sum())
    return WordFigures(
        words=words,
        bits_per_word=float(bits.sum()) / max(1, words),
        tokens_per_word=float(inside.sum()) / max(1, words),
        by_position=_by_position(bits, right, places),
        first_share=float(bits[first].sum()) / total,
        hidden_share=float(bits[later].sum()) / total,
        later_tokens_share=float(later.sum()) / float(inside.sum()),
        between_share=1.0 - total / float(bits.sum()),
        first_accuracy=float(right[first].mean()),
        later_accuracy=_mean(right[later]),
        token_accuracy=float(right[inside].mean()),
        word_accuracy=float(predicted.mean()),
        word_accuracy_of_several=_mean(predicted[several]),
    )


def _by_position(bits: np.ndarray, right: np.ndarray, places: Places) -> List[PositionFigures]:
    figures = []
    for position in range(DEEPEST):
        here = places.position == position if position < DEEPEST - 1 else places.position >= position
        if here.any():
            figures.append(
                PositionFigures(position + 1, int(here.sum()), float(bits[here].mean()), float(right[here].mean()))
            )
    return figures


def _predicted_words(right: np.ndarray, closed: np.ndarray, places: Places, words: int) -> np.ndarray:
    """Whether each word is predicted: all tokens from its first to its last, and its end: [words] bool."""
    since = np.maximum.accumulate(places.word)
    until = np.minimum.accumulate(np.where(places.position >= 0, places.word, words)[::-1])[::-1]
    within = (since == until) & (since >= 0)  # also marks of spacing between two tokens of the word
    predicted = closed.copy()
    predicted[since[within & ~right]] = False
    return predicted


def _mean(values: np.ndarray) -> Optional[float]:
    return float(values.mean()) if len(values) else None


def find_known_tokens(scorer: Scorer, corpus: Corpus) -> np.ndarray:
    """Where a corpus has any other token than <unk>: [N] bool."""
    if corpus.unit == "byte":
        return np.ones(len(corpus), dtype=bool)
    return corpus.ids(np.arange(len(corpus))) != scorer.task.target_dictionary.unk()
