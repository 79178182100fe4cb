#!/usr/bin/env python3
"""What tokenization does to a perplexity: the command of experiments/tokenization."""

import sys

try:
    from experiments.tokenization.program import main
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} cannot import {error.name}: use the Python that fairseq_sharnn was installed with "
        "(scripts/setup.sh makes one: source .venv/bin/activate)"
    )

if __name__ == "__main__":
    main()
