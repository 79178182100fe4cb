"""Whether a text has spaces between its words: where it has not, figures per word say little, and that is said."""

import re
from typing import Optional

_SAMPLE = 4_000_000  # bytes
_WHITE = re.compile("[ \t\n\v\f\r]+")
# Scripts that are written without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, kana, Chinese characters.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]"
)
LARGEST_SHARE = 0.25  # of the characters; Latin text that quotes a few Chinese words has less
LONGEST_WORDS = 24.0  # characters on average; the languages with the longest words, and URLs in lists, have fewer


def few_spaces(text: str) -> Optional[str]:
    """One sentence about a text whose words are not between spaces; None for any other text."""
    found = [word for word in _WHITE.split(text) if word]
    characters, words = sum(map(len, found)), len(found)
    share = len(_UNSPACED.findall(text)) / max(1, characters)
    if words and share < LARGEST_SHARE and characters <= LONGEST_WORDS * words:
        return None
    if not words:
        reason = "it is only white space"
    elif share >= LARGEST_SHARE:
        reason = f"{share:.0%} of its characters are of scripts that put no spaces between words"
    else:
        reason = f"{characters / words:,.0f} characters stand between two spaces on average"
    return (
        f"this text does not separate words by spaces ({reason}); a word is counted as what stands between white "
        "characters, so figures per word say little here: compare bits per byte"
    )


def note_on(path: str) -> Optional[str]:
    """As `few_spaces`, for the beginning of a file. Bytes that are not UTF-8 count as characters."""
    with open(path, "rb") as file:
        return few_spaces(file.read(_SAMPLE).decode("utf-8", "replace"))
