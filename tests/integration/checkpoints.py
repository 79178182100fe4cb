"""Comparing what fairseq's checkpoints hold."""

from typing import List

import torch


def load(path):
    return torch.load(path, map_location="cpu", weights_only=False)


def differences(first, second) -> List[str]:
    """Names of what is not the same to the last bit: parameters, optimizer state, schedules, place and stream state."""
    one, two = load(first), load(second)
    found = []
    for name in ("model", "last_optimizer_state"):
        found += _different(name, one[name], two[name])
    for name in ("lr_scheduler_state", "num_updates"):
        found += _different(name, one["optimizer_history"][-1][name], two["optimizer_history"][-1][name])
    iterators = [state["extra_state"]["train_iterator"] for state in (one, two)]
    if iterators[0]["iterations_in_epoch"] > 0 and iterators[0]["stream"]["state"] is None:
        found.append("no stream state")
    return found + _different("train_iterator", *iterators)


def _different(name, one, two) -> List[str]:
    if torch.is_tensor(one):
        return [] if torch.is_tensor(two) and torch.equal(one, two) else [name]
    if isinstance(one, dict):
        if not isinstance(two, dict) or set(one) != set(two):
            return [f"{name}: keys"]
        return [path for key in one for path in _different(f"{name}.{key}", one[key], two[key])]
    if isinstance(one, list):
        if not isinstance(two, list) or len(one) != len(two):
            return [f"{name}: length"]
        return [path for number, item in enumerate(one) for path in _different(f"{name}.{number}", item, two[number])]
    return [] if one == two else [name]
