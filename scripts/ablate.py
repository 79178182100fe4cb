#!/usr/bin/env python3
"""SHA-RNN with one thing changed at a time: see experiments/ablations/program.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fairseq_sharnn.errors import exit_with_one_line

with exit_with_one_line():
    from experiments.ablations.program import main


if __name__ == "__main__":
    main()
