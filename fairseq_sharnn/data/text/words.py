"""Text as words, exactly: surfaces and line ends, and marks where the spacing is not what the rule says.

A line is a sequence of elements: surfaces (words and punctuation), single white characters, and marks. Two surfaces
have a space between them, or none, by a rule that sees nothing but the surfaces themselves; the mark JOIN takes the
space away, the mark SPACE puts one there. A white character stands for itself, with nothing around it. So decoding
needs nothing but the tokens, and encoding can write any text.

Two styles: `moses` cuts with sacremoses, and the rule is its detokenizer's. `spaced` is for text that is tokenized
already (WikiText, text8): cut at spaces, and the rule is a space everywhere, at WikiText's line ends (`edge`) too.
"""

import re
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Dict, Iterable, Iterator, List, Optional

from fairseq_sharnn.data.text import moses
from fairseq_sharnn.data.text.lines import Part, parts_of
from fairseq_sharnn.data.text.symbols import name_of, text_of
from fairseq_sharnn.data.text.tokenizer import Tokenizer
from fairseq_sharnn.data.text.vocabulary import Symbols

JOIN, SPACE = "\\j", "\\s"  # names that `name_of` never makes
MARKS = (JOIN, SPACE, name_of(" "))

# a run: blocks of what is not white, with single spaces between
_RUN = re.compile(r"[^\s\x00-\x1f]+(?: [^\s\x00-\x1f]+)*")


@dataclass(frozen=True)
class WordRule:
    """style: `moses` or `spaced`. edge: what stands at both ends of each line (`spaced`). language: of `moses`."""

    style: str
    edge: str = ""
    language: str = "en"

    def is_white(self, text: str) -> bool:
        """Whether an element is a white character, which stands for itself."""
        if self.style == "spaced":
            return text == " "
        return len(text) == 1 and (text.isspace() or text < " ")

    def names(self, part: Part) -> Iterator[str]:
        """Names of the elements of a line, without its end."""
        if self.style == "moses":
            yield from self._moses(part.text)
        else:
            yield from self._spaced(part)

    def _moses(self, text: str) -> Iterator[str]:
        place = 0
        for run in _RUN.finditer(text):
            yield from map(name_of, text[place : run.start()])
            place = run.end()
            tokens = moses.surfaces(run[0], self.language)
            expected, at = [False, *moses.default_gaps(tokens, self.language)], 0
            for token, expects in zip(tokens, expected):
                found = run[0].startswith(" ", at)
                if found != expects:
                    yield SPACE if found else JOIN
                yield name_of(token)
                at += found + len(token)
        yield from map(name_of, text[place:])

    def _spaced(self, part: Part) -> Iterator[str]:
        words = list(re.finditer(r"[^ ]+", part.text))
        starts = [match.start() for match in words] + [len(part.text)]
        ends = [0] + [match.end() for match in words]
        for number, (start, end) in enumerate(zip(starts, ends)):
            if number == 0:
                rule = self.edge if part.first else " " if words else ""
            elif number == len(words):
                rule = self.edge if part.last and part.ended else ""
            else:
                rule = " "
            if number == 0 and not words and not (part.last and part.ended):
                rule = ""
            yield from self._gap(start - end, len(rule))
            if number < len(words):
                yield name_of(words[number][0])

    @staticmethod
    def _gap(found: int, wanted: int) -> List[str]:
        """What to write for a number of spaces where the rule has 0 or 1."""
        if found == wanted:
            return []
        return [JOIN] if found == 0 else [MARKS[2]] * found

    def spelled(self, names: List[str], ended: bool, continues: bool = False) -> List[str]:
        """What each element of a line stands for, its gap before it included; the line end as one more if `ended`.

        continues: these are not the line's first elements. (Only a long line is read in parts: `parts_of`.)
        """
        texts = [None if name in (JOIN, SPACE) else text_of(name) for name in names]
        gaps, spelled, before, override = self._rule(texts), [], None, None
        if continues and self.style == "spaced":
            gaps, before = chain([True], gaps), "surface"
        for name, text in zip(names, texts):
            if text is None:
                override = "" if name == JOIN else " "
                spelled.append("")
                continue
            white = self.is_white(text)
            if override is not None:
                gap = override
            elif white or before == "white":
                gap = ""
            else:
                gap = self.edge if before is None else " " if next(gaps) else ""
            if override is not None and not white and before == "surface":
                next(gaps)
            spelled.append(gap + text)
            before, override = "white" if white else "surface", None
        if ended:
            closing = override if override is not None else "" if before == "white" else self.edge
            spelled.append(closing + "\n")
        elif override:
            spelled[-1] = override
        return spelled

    def _rule(self, texts: List[Optional[str]]) -> Iterator[bool]:
        """For each surface behind another one, whether the rule has a space between."""
        run: List[str] = []
        for text in [*texts, " "]:
            if text is None:
                continue
            if not self.is_white(text):
                run.append(text)
                continue
            if self.style == "spaced":
                yield from [True] * (len(run) - 1)
            else:
                yield from moses.default_gaps(run, self.language)
            run = []


class WordTokenizer(Tokenizer):
    """Words of a dictionary; others are `<unk>`, whose names are kept in a file next to the split."""

    kind = "word"

    def __init__(self, rule: WordRule, dictionary: Symbols):
        self.rule = rule
        self.dictionary = dictionary

    def settings(self) -> Dict:
        return asdict(self.rule)

    def encode_prompt(self, text: bytes) -> List[int]:
        string = text.decode("utf-8", "backslashreplace")
        if self.rule.edge and not string.startswith(self.rule.edge):
            string = self.rule.edge + string
        ids: List[int] = []
        lines = string.split("\n")
        for number, line in enumerate(lines):
            ended = number < len(lines) - 1
            for part in parts_of(line, ended):
                ids += [self.dictionary.index(name) for name in self.rule.names(part)]
            if ended:
                ids.append(self.dictionary.eos())
        return ids

    def spell(
        self, ids: Iterable[int], unknown: Optional[Iterator[str]] = None, continues: bool = False
    ) -> List[bytes]:
        """The bytes that each id stands for.

        unknown: names of what is `<unk>`, in their order. continues: the first id is not the first of its line.
        """
        spelled: List[str] = []
        names: List[str] = []
        for index in ids:
            if index == self.dictionary.eos():
                spelled += self.rule.spelled(names, True, continues)
                names, continues = [], False
            elif index == self.dictionary.unk():
                names.append(name_of("<unk>") if unknown is None else next(unknown))
            else:
                names.append(self.dictionary[index])
        spelled += self.rule.spelled(names, False, continues)
        return [text.encode("utf-8", "surrogateescape") for text in spelled]

    def decode(self, ids: Iterable[int]) -> bytes:
        return b"".join(self.spell(ids))
