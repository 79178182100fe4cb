"""The average of several checkpoints, as one checkpoint for evaluation, the Python interface and fine-tuning."""

import re
from pathlib import Path
from typing import Dict, List, Optional

import torch
from fairseq import checkpoint_utils
from omegaconf import OmegaConf

from fairseq_sharnn.errors import UsageError


def average(paths: List[Path]) -> Dict:
    """A checkpoint with the mean of the parameters of checkpoints, computed in float64.

    It has the configuration of the first, and neither optimizer nor stream state. Raises UsageError when they do not have
    the same parameters.
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
            raise UsageError(f"{path} has other parameters than {paths[0]}: average checkpoints of one model")
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


def save(checkpoint: Dict, path: str) -> None:
    """Write a checkpoint whole. Raises UsageError if it cannot be written."""
    checkpoint_utils.torch_persistent_save(checkpoint, path)


def last_checkpoints(folder: Path, pattern: str, count: int, upper_bound: Optional[int]) -> List[Path]:
    """The `count` checkpoints in a folder whose number by `pattern` is highest, up to `upper_bound`."""
    numbered = []
    for path in folder.glob("*.pt"):
        match = re.fullmatch(pattern, path.name)
        if match and (upper_bound is None or float(match.group(1)) <= upper_bound):
            numbered.append((float(match.group(1)), path))
    if len(numbered) < count:
        raise UsageError(f"{folder} has {len(numbered)} checkpoints of the kind asked for, fewer than {count}")
    return [path for _, path in sorted(numbered, reverse=True)[:count]]


def best_checkpoints(folder: Path, count: int) -> List[Path]:
    """The `count` checkpoints that `--keep-best-checkpoints` left, lowest score first."""
    scored = []
    for path in folder.glob("checkpoint.best_*.pt"):
        match = re.fullmatch(r"checkpoint\.best_.*_(\d+\.\d{3})\d*\.pt", path.name)
        if match:
            scored.append((float(match.group(1)), path))
    if len(scored) < count:
        raise UsageError(f"{folder} has {len(scored)} best checkpoints, fewer than {count}")
    return [path for _, path in sorted(scored)[:count]]
