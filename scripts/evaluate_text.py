#!/usr/bin/env python3
"""Evaluate any of fairseq's language models on one scale: nats per token, bits per byte, perplexity per word.

    scripts/evaluate_text.py checkpoints/checkpoint_best.pt DATA --split test

DATA is the folder of scripts/prepare_text.py that the model was trained on (bytes: any folder of raw files). All three
figures come from one total and from the bytes and words of the original text; <unk> is charged for what it leaves out:
its bytes, spelled out by a uniform byte model.
"""

import argparse
import json
import logging
import math
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fairseq_sharnn.errors import UsageError, exit_with_one_line
from fairseq_sharnn.files import write_whole

with exit_with_one_line():
    from fairseq_sharnn.evaluation.scoring import Scorer


@exit_with_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--split", default="test", help="default: test")
    parser.add_argument("--batch-size", type=int, metavar="B", help="lanes (default: 8); stateless models: windows")
    parser.add_argument("--tokens-per-sample", type=int, metavar="T", help="default: the checkpoint's")
    parser.add_argument("--context-window", type=int, default=0, metavar="N", help="as in fairseq-eval-lm")
    parser.add_argument("--cpu", action="store_true", help="even if there is a GPU")
    parser.add_argument("--fp16", action="store_true", help="score in half precision")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    scorer = Scorer(args.checkpoint, args.data, cpu=args.cpu, fp16=args.fp16)
    scorer.check_split(args.split)
    nats = scorer.nats(
        scorer.corpus(args.split),
        quiet=False,
        batch_size=args.batch_size,
        tokens_per_sample=args.tokens_per_sample,
        context_window=args.context_window,
    )
    scale = scorer.scale(args.split, nats)
    print(f"{os.path.join(args.data, args.split)}: {scale.report()}")
    if scorer.note:
        print(f"note: {scorer.note}")
    if args.json:
        # null for what is no finite number: JSON has no word for it
        figures = {name: value if math.isfinite(value) else None for name, value in scale.figures().items()}
        try:
            write_whole(args.json, json.dumps(figures, indent=1, allow_nan=False))
        except OSError as error:
            raise UsageError(f"cannot write {args.json}: {error.strerror}") from None


if __name__ == "__main__":
    main()
