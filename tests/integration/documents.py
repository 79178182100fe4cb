"""What the Markdown pages of this repository say: their commands, their links, and the paths that they name."""

import re
import shlex
from pathlib import Path
from typing import List

from tests.conftest import ROOT

# Whose pages are checked. Reports are written by programs, which have their own tests.
FOLDERS = ("docs", "examples", "experiments", "benchmarks", "tests")


def pages() -> List[Path]:
    """Every Markdown page that a person wrote."""
    below = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.md")))
    return sorted(ROOT.glob("*.md")) + [
        path for path in below if path.name != "REPORT.md" and "reports" not in path.parts
    ]


def blocks(page: Path, language: str) -> List[str]:
    """The text of each fenced block of the page that is marked with the language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> List[List[str]]:
    """The command lines of a page's `sh` blocks as lists of words. Continued lines are joined, comments dropped."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def expanded(page: Path) -> List[List[str]]:
    """`commands`, with arithmetic and variables replaced by a number, for programs that only read the words.

    Of a loop only the commands in it are kept.
    """
    text = re.sub(r"\$\(\(.*?\)\)|\$([A-Z]|[a-z]+)\b", "30", "".join(blocks(page, "sh")).replace("\\\n", " "))
    lines = (shlex.split(line, comments=True) for line in text.splitlines())
    return [words for words in lines if words and words[0] not in ("for", "done")]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> List[str]:
    """The targets of the page's links and pictures, those of other sites left out."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|srcset|href)=\"([^\"]+)\"", text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> List[str]:
    """The names by which links reach the page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def paths(page: Path) -> List[str]:
    """What the page names in `code` that looks like a path of this repository."""
    tops = [path.name for path in ROOT.iterdir() if path.is_dir()]
    packages = [path.name for path in (ROOT / "fairseq_sharnn").iterdir() if path.is_dir()]
    named = re.findall(r"`([^`\n]+)`", prose(page))
    typed = [re.sub(r"--out \S+", "", text) for text in blocks(page, "sh")]  # what a command makes
    words = [word for text in named + typed for word in text.split()]
    return [word for word in words if word.split("/")[0] in tops + packages and "/" in word and "..." not in word]
