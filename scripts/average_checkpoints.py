#!/usr/bin/env python3
"""Average the parameters of checkpoints, with the options of fairseq's own script (which its pip packages leave out).

    scripts/average_checkpoints.py --inputs checkpoints --num-epoch-checkpoints 5 --output checkpoints/average.pt
    scripts/average_checkpoints.py --inputs a.pt b.pt c.pt --output average.pt

The result holds averaged parameters and the configuration of the first input: for fairseq-eval-lm, the hub interface and
--finetune-from-model. Optimizer and stream state are left out.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Dict, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fairseq_sharnn.errors import UsageError, exit_with_one_line
from fairseq_sharnn.registration import register

with exit_with_one_line():
    import torch
    from fairseq import checkpoint_utils
    from omegaconf import OmegaConf

    register()


def average(paths: List[Path]) -> Dict:
    """A checkpoint whose parameters are the mean, taken in float64, of those of the given ones.

    Raises UsageError when they do not hold the same parameters.
    """
    total: Dict[str, torch.Tensor] = {}
    result = None
    for path in paths:
        state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
        model = state["model"]
        if result is None:
            result = state
            total = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in model.items()}
        shapes = {name: tensor.shape for name, tensor in model.items()}
        if shapes != {name: tensor.shape for name, tensor in total.items()}:
            raise UsageError(f"{path} holds other parameters than {paths[0]}: average checkpoints of one model")
        for name, tensor in model.items():
            total[name] += tensor.double()
    first = result["model"]
    result["model"] = {name: (tensor / len(paths)).to(first[name].dtype) for name, tensor in total.items()}
    result["last_optimizer_state"] = None
    if result.get("cfg") is not None:  # plain data again, as fairseq's trainer writes it
        result["cfg"] = OmegaConf.to_container(result["cfg"], resolve=True, enum_to_str=True)
    iterator = {**result["extra_state"].get("train_iterator", {"epoch": 1})}
    iterator.pop("stream", None)
    result["extra_state"] = {"train_iterator": {**iterator, "iterations_in_epoch": 0}, "val_loss": None}
    return result


def last_checkpoints(folder: Path, pattern: str, count: int, upper_bound: Optional[int]) -> List[Path]:
    """The `count` checkpoints in a folder whose number by `pattern` is highest, up to `upper_bound`."""
    found = []
    for path in folder.glob("*.pt"):
        match = re.fullmatch(pattern, path.name)
        if match and (upper_bound is None or float(match.group(1)) <= upper_bound):
            found.append((float(match.group(1)), path))
    if len(found) < count:
        raise UsageError(f"{folder} has {len(found)} checkpoints of the kind asked for, fewer than {count}")
    return [path for _, path in sorted(found, reverse=True)[:count]]


def best_checkpoints(folder: Path, count: int) -> List[Path]:
    """The `count` checkpoints that `--keep-best-checkpoints` left, lowest score first."""
    found = []
    for path in folder.glob("checkpoint.best_*.pt"):
        match = re.fullmatch(r"checkpoint\.best_.*_(\d+\.\d{3})\d*\.pt", path.name)
        if match:
            found.append((float(match.group(1)), path))
    if len(found) < count:
        raise UsageError(f"{folder} has {len(found)} best checkpoints, fewer than {count}")
    return [path for _, path in sorted(found)[:count]]


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
    checkpoint_utils.torch_persistent_save(average(paths), args.output)
    print(f"written: {args.output}")


if __name__ == "__main__":
    main()
