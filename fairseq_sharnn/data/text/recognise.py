"""Which style of words a text is in: running text, or tokenized already, as WikiText and text8 are."""

import re
from typing import Tuple

from fairseq_sharnn.data.text.lines import lines_of
from fairseq_sharnn.data.text.words import WordRule

_SAMPLE = 1_000_000  # characters
_OWN_UNKNOWN = re.compile(r"(^|\s)<unk>(\s|$)")
_TOKENIZED = re.compile(r"(^|\s)(@[-,.]@|<unk>)(\s|$)")
_LETTERS = re.compile(r"[a-z ]*")


def recognise(path: str, style: str = "auto") -> Tuple[WordRule, bool]:
    """The rule for a text, from its first million characters, and whether the text itself has <unk>.

    WikiText: lines between spaces (` = Title = `, ` text , text . `). `spaced` is also the rule where at
    least one word in a thousand is `@-@` or `<unk>` (Penn Treebank), and where the text has only lower-case letters and
    spaces (text8). Everything else is `moses`.
    """
    read = lines = padded = words = marks = 0
    letters, unknowns = True, False
    for part in lines_of(path):
        if read > _SAMPLE:
            break
        read += len(part.text) + 1
        if part.text.strip(" "):
            lines += 1
            padded += part.text.startswith(" ") and part.text.endswith(" ")
        words += len(part.text.split())
        marks += len(_TOKENIZED.findall(part.text))
        unknowns = unknowns or bool(_OWN_UNKNOWN.search(part.text))
        letters = letters and bool(_LETTERS.fullmatch(part.text))
    edge = " " if lines and padded >= 0.9 * lines and lines > 1 else ""
    if style == "auto":
        style = "spaced" if edge or letters or (marks and 1000 * marks >= words) else "moses"
    return WordRule(style, edge if style == "spaced" else ""), unknowns
