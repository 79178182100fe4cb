#!/usr/bin/env python3
"""Average the parameters of checkpoints, with the options of fairseq's own script (which its pip packages leave out).

    scripts/average_checkpoints.py --inputs checkpoints --num-epoch-checkpoints 5 --output checkpoints/average.pt
    scripts/average_checkpoints.py --inputs a.pt b.pt c.pt --output average.pt

The result has averaged parameters and the configuration of the first input. It is for fairseq-eval-lm, the Python
interface and --finetune-from-model. It has no optimizer and no stream state.
"""

import argparse
import sys
from pathlib import Path

try:
    from fairseq_sharnn.errors import UsageError, exit_with_one_line
    from fairseq_sharnn.models.averaging import average, best_checkpoints, last_checkpoints, save
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} cannot import {error.name}: use the Python that fairseq_sharnn was installed with "
        "(scripts/setup.sh makes one: source .venv/bin/activate)"
    )


@exit_with_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", required=True, nargs="+", type=Path, help="checkpoint files, or one folder")
    parser.add_argument("--output", required=True, metavar="FILE", help="where the averaged checkpoint is written")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--num-epoch-checkpoints", type=int, help="average the last N checkpointE.pt of the folder")
    kind.add_argument("--num-update-checkpoints", type=int, help="average the last N checkpoint_E_U.pt of the folder")
    kind.add_argument("--num-best-checkpoints", type=int, help="average the N best checkpoint.best_*.pt of the folder")
    parser.add_argument("--checkpoint-upper-bound", type=int, help="leave out later epochs (or updates) than this")
    args = parser.parse_args()
    paths = args.inputs
    chosen = args.num_epoch_checkpoints or args.num_update_checkpoints or args.num_best_checkpoints
    if chosen:
        if len(paths) != 1 or not paths[0].is_dir():
            raise UsageError("--num-...-checkpoints takes one folder as --inputs")
        if args.num_epoch_checkpoints:
            paths = last_checkpoints(paths[0], r"checkpoint(\d+)\.pt", chosen, args.checkpoint_upper_bound)
        elif args.num_update_checkpoints:
            paths = last_checkpoints(paths[0], r"checkpoint_\d+_(\d+)\.pt", chosen, args.checkpoint_upper_bound)
        else:
            paths = best_checkpoints(paths[0], chosen)
    print("averaging " + ", ".join(str(path) for path in paths))
    save(average(paths), args.output)
    print(f"written: {args.output}")


if __name__ == "__main__":
    main()
