#!/usr/bin/env python3
"""Choose rate and decay of dynamic evaluation on the validation split, and print the command for the test split.

    scripts/tune_dynamic.py checkpoints/checkpoint_best.pt DATA

It evaluates statically, then with each rate, then with each decay at the best rate: 8 or 9 runs over the first bytes
(tokens) of the split. Nothing is random: the same command prints the same bits again.
"""

import argparse
import logging
import shlex
import sys

try:
    from fairseq_sharnn.errors import UsageError, exit_with_one_line
    from fairseq_sharnn.evaluation.dynamic import STATIC, settings_of
    from fairseq_sharnn.evaluation.scoring import Scorer
    from fairseq_sharnn.evaluation.tuning import FirstIds, Run, best, tune
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} cannot import {error.name}: use the Python that fairseq_sharnn was installed with "
        "(scripts/setup.sh makes one: source .venv/bin/activate)"
    )


def numbers(option: str, text: str, least: float) -> list:
    """Numbers between commas, above `least`. Raises UsageError."""
    try:
        found = sorted({float(part) for part in text.split(",") if part.strip()})
    except ValueError:
        found = []
    if (not found and option == "--rates") or any(not least < value < float("inf") for value in found):
        raise UsageError(f"{option} takes numbers above {least:g} between commas, not {text}")
    return found


@exit_with_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--split", default="valid", help="the split to choose on (default: valid)")
    parser.add_argument("--most", type=int, default=200_000, help="bytes (tokens) of it to read (default: 200000)")
    parser.add_argument("--rates", default="1e-4,2e-4,5e-4,1e-3,2e-3", help="default: %(default)s")
    parser.add_argument("--decays", default="1e-4,1e-3", help="default: %(default)s; empty: none")
    parser.add_argument("--dynamic-optimizer", default="adam", help="adam, rms or sgd (default: adam)")
    parser.add_argument("--dynamic-clip", type=float, default=0.25, help="default: 0.25")
    parser.add_argument("--batch-size", type=int, default=8, metavar="B", help="lanes, or windows (default: 8)")
    parser.add_argument("--tokens-per-sample", type=int, default=64, metavar="T", help="chunk, or window (default: 64)")
    parser.add_argument("--context-window", type=int, default=0, metavar="N", help="as in fairseq-eval-lm")
    parser.add_argument("--cpu", action="store_true", help="use the CPU, even if there is a GPU")
    args = parser.parse_args()
    rates, decays = numbers("--rates", args.rates, 0.0), numbers("--decays", args.decays, 0.0)
    first = settings_of(args)
    if args.most < 1:
        raise UsageError(f"--most must be at least 1, but it is {args.most}")
    logging.disable(logging.INFO)
    scorer = Scorer(args.checkpoint, args.data, cpu=args.cpu)
    corpus = FirstIds(scorer.corpus(args.split), args.most)
    cut = {name: getattr(args, name) for name in ("batch_size", "tokens_per_sample", "context_window")}
    print(f"{corpus.path}, the first {len(corpus):,} {corpus.unit}s")
    print(f"{'evaluation':<10} {'rate':>8} {'decay':>8} {f'bits per {corpus.unit}':>15} {'seconds':>8}", flush=True)
    runs = tune(scorer, corpus, first, rates, decays, say=show, **cut)
    print(f"\nchosen for the test split:\n{command(args, best(runs), cut)}")


def show(run: Run) -> None:
    """One row of the table."""
    kind = "dynamic" if run.dynamic.learns else "static"
    settings = f"{run.dynamic.lr:>8g} {run.dynamic.decay:>8g}" if run.dynamic.learns else f"{'':>8} {'':>8}"
    print(f"{kind:<10} {settings} {run.bits:>15.4f} {run.seconds:>8.1f}", flush=True)


def command(args: argparse.Namespace, chosen: Run, cut: dict) -> str:
    """The command that evaluates the test split with what was chosen (statically, if no rate was better)."""
    dynamic = chosen.dynamic
    words = ["scripts/evaluate_text.py", args.checkpoint, args.data, "--split", "test"]
    for name, value in cut.items():
        words += [f"--{name.replace('_', '-')}", str(value)] if value else []
    if dynamic != STATIC:
        words += ["--dynamic-lr", f"{dynamic.lr:g}", "--dynamic-optimizer", dynamic.optimizer]
        words += ["--dynamic-decay", f"{dynamic.decay:g}", "--dynamic-clip", f"{dynamic.clip:g}"]
    return shlex.join([*words, *(["--cpu"] if args.cpu else [])])


if __name__ == "__main__":
    main()
