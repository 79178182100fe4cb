"""One scale for all vocabularies: what a total of nats comes to per token, per byte and per word of the original text."""

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

    model_nats: what the model itself assigns. spelling_nats: of what it calls <unk>, spelled out. tokens, bytes, words,
    unknown: of the whole split. A word is what stands between white bytes, in any tokenization.
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
        """exp(nats / words); infinite where the text has no word, or as many nats as no float holds."""
        return _exp(self.nats / self.words) if self.words else math.inf

    @property
    def token_perplexity(self) -> float:
        """What papers print for a tokenization of their own: the model's nats alone, <unk> uncharged."""
        return _exp(self.model_nats / self.tokens)

    def figures(self) -> Dict[str, float]:
        """All of it, for JSON."""
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
                f"for each byte and each end): {charged:.4f} of the bits per byte; the model alone: "
                f"{self.model_nats / self.tokens:.4f} nats per token"
            )
        return "\n".join(lines)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
