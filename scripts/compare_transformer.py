#!/usr/bin/env python3
"""SHA-RNN compared with fairseq's Transformers and LSTM: see experiments/versus_transformer/program.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fairseq_sharnn.errors import exit_with_one_line

with exit_with_one_line():
    from experiments.versus_transformer.program import main


if __name__ == "__main__":
    main()
