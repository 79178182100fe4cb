"""Trust ratios of every tensor over training, as lines of JSON (paper, section 4.4, on why they need a floor)."""

import json
from pathlib import Path
from typing import Dict, List

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.files import write_whole


class TrustLog:
    """A file of lines `{"update": n, "trust": {name: ratio, ...}}`, one every `interval` updates, in order.

    A run that resumes from a checkpoint makes some updates again that the killed run had already written. Their lines
    are replaced, so that each update has one line.
    """

    def __init__(self, path: str, interval: int):
        if interval < 1:
            raise UsageError(f"--trust-log-interval must be at least 1, but it is {interval}")
        self.path = Path(path)
        self.interval = interval
        self._continued = False

    def is_due(self, update: int) -> bool:
        """Whether this update has a line."""
        return update % self.interval == 0

    def write(self, update: int, trust: Dict[str, float]) -> None:
        """Append a line. Raises UsageError when the file cannot be written."""
        line = json.dumps({"update": update, "trust": {name: round(ratio, 6) for name, ratio in trust.items()}})
        try:
            if not self._continued:
                self._keep_before(update)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise UsageError(f"cannot write --trust-log {self.path}: {error.strerror}") from None

    def _keep_before(self, update: int) -> None:
        """Before the first line of this process: keep only whole lines of earlier updates."""
        self._continued = True
        if self.path.exists():
            kept = [json.dumps(line) + "\n" for line in read_trust_log(self.path) if line["update"] < update]
            write_whole(self.path, "".join(kept))


def read_trust_log(path: Path) -> List[Dict]:
    """The lines of a trust log. A line that a kill cut short is left out."""
    lines = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines
