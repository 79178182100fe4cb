#!/usr/bin/env python3
"""What tokenization does to a perplexity: one text and one budget as bytes, words and word pieces, for two models.

    scripts/tokenization_study.py text.txt --out results/NAME

Trains SHA-RNN and transformer_lm on each tokenization, one core a run, and writes REPORT.md, plots and figures.json into
the output folder. What is finished is not repeated: the same command goes on with an interrupted study. Needs matplotlib.
"""

import argparse
import hashlib
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Tuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fairseq_sharnn.errors import UsageError, exit_with_one_line

with exit_with_one_line():
    from experiments.tokenization.analysis import results_of
    from experiments.tokenization.plan import Folder, Plan
    from experiments.tokenization.schedule import run_all
    from experiments.tokenization.texts import cut_text, cuts_of, read_text, tokenize


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="a text file, UTF-8; unpacked if it ends in .xz")
    parser.add_argument("--first-bytes", type=int, metavar="N", help="of the text, cut at a character (default: all)")
    parser.add_argument(
        "--out", required=True, metavar="results/NAME", help="folder of the report; its work/ holds the rest"
    )
    parser.add_argument(
        "--piece-sizes", default="500,2000,8000", help="sentencepiece vocabularies (default: %(default)s)"
    )
    parser.add_argument("--words", type=int, default=8000, help="size of the word vocabulary (default: %(default)s)")
    parser.add_argument("--width", type=int, default=128, help="of both models (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=2, help="of both models (default: %(default)s)")
    parser.add_argument("--window", type=int, default=128, help="bytes of text a chunk covers (default: %(default)s)")
    parser.add_argument("--lanes", type=int, default=16, help="chunks in an update (default: %(default)s)")
    parser.add_argument("--passes", type=float, default=1.0, help="over the training text (default: %(default)s)")
    parser.add_argument("--attack-bytes", type=int, default=40000, help="of the test text (default: %(default)s)")
    parser.add_argument("--attack-words", type=int, default=1000, help="for the searches (default: %(default)s)")
    parser.add_argument("--best", type=int, default=64, help="n of the n best segmentations (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="runs at a time (default: %(default)s)"
    )
    return parser


def plan_of(args) -> Tuple[Plan, bytes]:
    """The plan of a command line, and its text. Raises UsageError for a text that does not do, or an option's value."""
    for option in (
        "words",
        "width",
        "layers",
        "window",
        "lanes",
        "passes",
        "attack_bytes",
        "attack_words",
        "best",
        "jobs",
        "first_bytes",
    ):
        value = getattr(args, option)
        if value is not None and not value > 0:
            raise UsageError(f"--{option.replace('_', '-')} must be above 0, but it is {value}")
    if args.layers < 2:
        raise UsageError("--layers must be at least 2: the head of SHA-RNN is in the second-to-last layer")
    try:
        sizes = tuple(int(size) for size in args.piece_sizes.split(","))
    except ValueError:
        raise UsageError(f"--piece-sizes takes numbers such as 500,2000, not {args.piece_sizes}") from None
    text = read_text(args.data, args.first_bytes)
    plan = Plan(
        text=os.path.basename(args.data),
        sha256=hashlib.sha256(text).hexdigest(),
        piece_sizes=sizes,
        **{name: getattr(args, name) for name in ("words", "width", "layers", "window", "lanes", "passes")},
        **{name: getattr(args, name) for name in ("attack_bytes", "attack_words", "best", "seed")},
    )
    cuts_of(text, plan)
    return plan, text


@exit_with_one_line()
def main() -> None:
    args = parser().parse_args()
    logging.disable(logging.INFO)
    try:
        from experiments.tokenization.report import write_report
    except ImportError as error:
        raise UsageError(
            f"the study draws with matplotlib, which cannot be imported ({error}): pip install matplotlib"
        ) from None
    logging.disable(logging.INFO)
    (plan, text), folder = plan_of(args), Folder(args.out)
    folder.claim(plan)
    cut_text(text, plan, folder)
    abouts = {}
    for name in plan.tokenizations:
        print(f"preparing {name}", file=sys.stderr)
        abouts[name] = tokenize(plan, folder, name)
    try:
        run_all(plan, folder, abouts, args.jobs)
    except RuntimeError as error:
        raise UsageError(f"{error}; the same command goes on with what is left") from error
    results = {run: results_of(folder, run) for run in plan.runs}
    command = " ".join(["scripts/tokenization_study.py", *map(shlex.quote, sys.argv[1:])])
    write_report(plan, folder, abouts, results, command)
    print(f"{os.path.join(args.out, 'REPORT.md')}: {len(results)} runs")


if __name__ == "__main__":
    main()
