"""What a tokenizer does for sampling: text to ids of a dictionary and back."""

from typing import Iterable, List

from fairseq_sharnn.data.text.vocabulary import Symbols


class Tokenizer:
    """Text, as bytes, to ids of a dictionary and back. `</s>` stands for a line end, as in fairseq's own corpora."""

    def encode_prompt(self, text: bytes) -> List[int]:
        """Ids of a text whose last line is still open."""
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> bytes:
        """The text of ids. What a dictionary leaves unsaid (`<unk>`) is shown as it is named."""
        raise NotImplementedError


class SpaceTokenizer(Tokenizer):
    """Symbols between spaces: corpora of fairseq-preprocess, of which nothing else is known."""

    def __init__(self, dictionary: Symbols):
        self.dictionary = dictionary

    def encode_prompt(self, text: bytes) -> List[int]:
        ids: List[int] = []
        for number, line in enumerate(text.decode("utf-8", "backslashreplace").split("\n")):
            if number > 0:
                ids.append(self.dictionary.eos())
            ids += [self.dictionary.index(word) for word in line.split()]
        return ids

    def decode(self, ids: Iterable[int]) -> bytes:
        lines: List[List[str]] = [[]]
        for index in ids:
            if index == self.dictionary.eos():
                lines.append([])
            else:
                lines[-1].append(self.dictionary[index])
        return "\n".join(" ".join(line) for line in lines).encode("utf-8", "surrogateescape")
