"""One scale for all vocabularies: a total of nats per token, per byte and per word of the original text."""

import math
from typing import Dict, Iterable, NamedTuple

from fairseq_sharnn.data.text.symbols import text_of
from fairseq_sharnn.data.text.words import JOIN, SPACE

# 256 byte values and one symbol that ends the word: with it the model's probabilities add up to one.
UNIFORM_SYMBOLS = 257


def spelling_cost(names: Iterable[str]) -> float:
    """Nats to spell words out by a uniform byte model: ln 257 for each byte and for the end of each word."""
    symbols = sum(1 + (0 if name in (JOIN, SPACE) else len(text_of(name).encode())) for name in names)
    return symbols * math.log(UNIFORM_SYMBOLS)


class Scale(NamedTuple):
    """A model's cost of a text, and how much text it is.

    model_nats: the model's own. spelling_nats: to spell out what it calls <unk>. tokens, bytes, words, unknown: counts
    of the whole split. A word is what stands between white bytes, in any tokenization.
    """

    model_nats: float
    spelling_nats: float
    tokens: int
    bytes: int
    words: int
    unknown: int

    @property
    def nats(self) -> float:
        return self.model_nats + self.spelling_nats

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        return self.nats / self.bytes / math.log(2)

    @property
    def word_perplexity(self) -> float:
        """exp(nats / words). Infinite where the text has no word, or where no float is large enough."""
        return _exp(self.nats / self.words) if self.words else math.inf

    @property
    def token_perplexity(self) -> float:
        """What papers print for their own tokenization: only the model's nats, without a charge for <unk>."""
        return _exp(self.model_nats / self.tokens)

    def figures(self) -> Dict[str, float]:
        """All figures, for JSON."""
        derived = ("nats", "nats_per_token", "bits_per_byte", "word_perplexity", "token_perplexity")
        return {**self._asdict(), **{name: getattr(self, name) for name in derived}}

    def report(self) -> str:
        """The lines that scripts/evaluate_text.py prints."""
        lines = [
            f"{self.tokens:,} tokens of {self.bytes:,} bytes and {self.words:,} words",
            f"nats per token       {self.nats_per_token:.4f}",
            f"bits per byte        {self.bits_per_byte:.4f}",
            f"perplexity per word  {self.word_perplexity:.2f}",
        ]
        if self.unknown:
            charged = self.spelling_nats / self.bytes / math.log(2)
            lines.append(
                f"in all three, {self.unknown:,} <unk> are spelled out by a uniform byte model (ln {UNIFORM_SYMBOLS} nats "
                f"for each byte and each end): {charged:.4f} of the bits per byte; the model by itself: "
                f"{self.model_nats / self.tokens:.4f} nats per token"
            )
        return "\n".join(lines)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
