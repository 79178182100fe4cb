#!/usr/bin/env python3
"""SHA-RNN compared with fairseq's Transformers and LSTM: the command of experiments/versus_transformer."""

import sys

try:
    from experiments.versus_transformer.program import main
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} cannot import {error.name}: use the Python that fairseq_sharnn was installed with "
        "(scripts/setup.sh makes one: source .venv/bin/activate)"
    )

if __name__ == "__main__":
    main()
