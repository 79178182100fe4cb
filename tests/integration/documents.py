"""The commands that a Markdown page tells its readers to type."""

import re
import shlex
from pathlib import Path
from typing import List


def commands(page: Path) -> List[List[str]]:
    """The indented command lines of a page, continued lines joined, comments dropped, as lists of words."""
    text = page.read_text().replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in re.findall(r"^    (\S.*)$", text, flags=re.MULTILINE)]
