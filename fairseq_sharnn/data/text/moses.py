"""Words by sacremoses: where it cuts a text, and where its detokenizer would put spaces again."""

import re
from functools import lru_cache
from typing import List

# WikiText's own conventions: hyphens, commas and points inside words, and words it has taken out.
PROTECTED = re.compile(r"(@[-,.]@|<unk>)")
_SIMPLE = re.compile(r"\w+|[^\w ]")


@lru_cache(maxsize=None)
def _tokenizer(language: str):
    from sacremoses import MosesTokenizer

    return MosesTokenizer(language)


@lru_cache(maxsize=None)
def _detokenizer(language: str):
    from sacremoses import MosesDetokenizer

    return MosesDetokenizer(language)


def surfaces(run: str, language: str) -> List[str]:
    """Tokens of a run (blocks of text between single spaces): its own characters, none lost but the spaces.

    sacremoses rewrites a few texts (its own placeholders, for one); those are cut simply: words and single marks.
    """
    tokens = []
    for part in PROTECTED.split(run):
        if PROTECTED.fullmatch(part):
            tokens.append(part)
        elif part:
            tokens += _tokenizer(language).tokenize(part, escape=False)
    return tokens if aligned(run, tokens) else _SIMPLE.findall(run)


def aligned(run: str, tokens: List[str]) -> bool:
    """Whether the tokens, with one space or none between them, are the run."""
    place = 0
    for token in tokens:
        place += run.startswith(" ", place)
        if not run.startswith(token, place):
            return False
        place += len(token)
    return place == len(run)


def default_gaps(tokens: List[str], language: str) -> List[bool]:
    """For each token but the first: whether the detokenizer puts a space before it. A function of the tokens only."""
    if len(tokens) < 2:
        return []
    plain = ["x" if PROTECTED.fullmatch(token) else token for token in tokens]
    text = _detokenizer(language).detokenize(plain, unescape=False).strip(" ")
    gaps, place = [], 0
    for token in plain:
        spaced = text.startswith(" ", place)
        place += spaced
        if not text.startswith(token, place):
            return [True] * (len(tokens) - 1)  # it has rewritten a token
        gaps.append(bool(spaced))
        place += len(token)
    return gaps[1:]
