#!/usr/bin/env python3
"""SHA-RNN with one thing changed at a time: the command of experiments/ablations."""

import sys

try:
    from experiments.ablations.program import main
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} cannot import {error.name}: use the Python that fairseq_sharnn was installed with "
        "(scripts/setup.sh makes one: source .venv/bin/activate)"
    )

if __name__ == "__main__":
    main()
