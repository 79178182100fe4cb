#!/usr/bin/env python3
"""Evaluate any of fairseq's language models on one scale: nats per token, bits per byte, perplexity per word.

    scripts/evaluate_text.py checkpoints/checkpoint_best.pt DATA --split test

DATA is the folder of scripts/prepare_text.py that the model was trained on (bytes: any folder of raw files). All three
figures follow from one total and from the bytes and words of the original text. The spelling of each <unk> is charged by
a uniform byte model.
"""

import argparse
import json
import logging
import math
import os
import sys
import time

try:
    from fairseq_sharnn.errors import UsageError, exit_with_one_line
    from fairseq_sharnn.evaluation.dynamic import settings_of
    from fairseq_sharnn.evaluation.scoring import Scorer
    from fairseq_sharnn.files import write_whole
    from fairseq_sharnn.portable.command_line import add_dynamic
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} cannot import {error.name}: use the Python that fairseq_sharnn was installed with "
        "(scripts/setup.sh makes one: source .venv/bin/activate)"
    )


@exit_with_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--split", default="test", help="default: test")
    parser.add_argument("--batch-size", type=int, metavar="B", help="lanes (default: 8); stateless models: windows")
    parser.add_argument("--tokens-per-sample", type=int, metavar="T", help="default: the checkpoint's")
    parser.add_argument("--context-window", type=int, default=0, metavar="N", help="as in fairseq-eval-lm")
    parser.add_argument("--cpu", action="store_true", help="use the CPU, even if there is a GPU")
    parser.add_argument("--fp16", action="store_true", help="score in half precision")
    add_dynamic(parser)
    parser.add_argument("--json", metavar="FILE", help="also write the figures to this file")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    dynamic = settings_of(args)
    scorer = Scorer(args.checkpoint, args.data, cpu=args.cpu, fp16=args.fp16)
    scorer.check_split(args.split)
    began = time.perf_counter()
    nats = scorer.nats(
        scorer.corpus(args.split),
        quiet=False,
        batch_size=args.batch_size,
        tokens_per_sample=args.tokens_per_sample,
        context_window=args.context_window,
        dynamic=dynamic,
    )
    seconds = time.perf_counter() - began
    scale = scorer.scale(args.split, nats)
    print(f"{os.path.join(args.data, args.split)}: {scale.report()}")
    print(f"evaluation           {dynamic}, {seconds:.1f} s")
    if scorer.note:
        print(f"note: {scorer.note}")
    if args.json:
        # JSON has no infinity: null stands for what is not finite
        figures = {name: value if math.isfinite(value) else None for name, value in scale.figures().items()}
        figures.update(dynamic.figures(), seconds=seconds)
        try:
            write_whole(args.json, json.dumps(figures, indent=1, allow_nan=False))
        except OSError as error:
            raise UsageError(f"cannot write {args.json}: {error.strerror}") from None


if __name__ == "__main__":
    main()
