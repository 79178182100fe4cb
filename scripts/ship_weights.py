#!/usr/bin/env python3
"""Make a checkpoint the model of the package: the command of experiments/weights."""

import sys

try:
    from experiments.weights.program import main
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} cannot import {error.name}: use the Python that fairseq_sharnn was installed with "
        "(scripts/setup.sh makes one: source .venv/bin/activate)"
    )

if __name__ == "__main__":
    sys.exit(main())
