"""SHA-RNN for fairseq: `--user-dir fairseq_sharnn` registers the model, the optimizer and the tasks.

Without fairseq, `load` opens a trained model in torch only. `modules`, `ops`, `optim.lamb` and `reference` need torch
only, too, and importing them never patches fairseq. Importing the package imports neither torch nor fairseq.
"""

from typing import Any

from fairseq_sharnn.registration import register_when_needed

__all__ = ["__version__", "load"]

__version__ = "0.1.0"

register_when_needed()


def __getattr__(name: str) -> Any:
    if name == "load":
        from fairseq_sharnn.portable.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
