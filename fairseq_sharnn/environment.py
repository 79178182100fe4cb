"""For scripts to import first: one line, not a traceback, where one was started outside of its environment."""

import importlib.util
import sys

from fairseq_sharnn.errors import UsageError

if importlib.util.find_spec("torch") is None:
    raise UsageError(
        f"{sys.executable} has no torch: use the Python that fairseq_sharnn was installed with (scripts/setup.sh makes "
        "one: source .venv/bin/activate)"
    )
