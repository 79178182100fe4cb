"""Names of tokens in dict.txt: any string as a printable one without spaces, and back."""

import re

RESERVED = ("<s>", "<pad>", "</s>", "<unk>")
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(\\))")


def _escaped(character: str) -> str:
    code = ord(character)
    if character == "\\":
        return "\\\\"
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def name_of(text: str) -> str:
    """The name of a token's text: what does not print, spaces and backslashes are escaped.

    The same for a token that is spelled like one of fairseq's own symbols (WikiText's `<unk>`): `\\x3cunk>`.
    """
    if text in RESERVED:
        return _escaped(text[0]) + text[1:]
    if text.isprintable() and "\\" not in text and " " not in text:
        return text
    return "".join(c if c.isprintable() and c not in "\\ " else _escaped(c) for c in text)


def text_of(name: str) -> str:
    """The text behind a name."""
    if "\\" not in name:
        return name
    return _ESCAPE.sub(lambda match: match[4] or chr(int(match[1] or match[2] or match[3], 16)), name)
