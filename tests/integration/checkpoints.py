"""Comparing what fairseq's checkpoints hold."""

from typing import List

import torch


def load(path):
    return torch.load(path, map_location="cpu", weights_only=False)


def differences(first, second) -> List[str]:
    """Names of parameters, optimizer moments and stream states that are not the same to the last bit."""
    one, two = load(first), load(second)
    found = [name for name in one["model"] if not torch.equal(one["model"][name], two["model"][name])]
    for number, moments in one["last_optimizer_state"]["state"].items():
        for name, value in moments.items():
            if not torch.equal(value, two["last_optimizer_state"]["state"][number][name]):
                found.append(f"optimizer {number} {name}")
    for number, (a, b) in enumerate(
        zip(one["last_optimizer_state"].get("masters", []), two["last_optimizer_state"].get("masters", []))
    ):
        if not torch.equal(a, b):
            found.append(f"master {number}")
    if one["optimizer_history"][-1]["num_updates"] != two["optimizer_history"][-1]["num_updates"]:
        found.append("num_updates")
    states = [state["extra_state"]["train_iterator"].get("stream") for state in (one, two)]
    found += _different("stream", *states)
    return found


def _different(name, one, two) -> List[str]:
    if torch.is_tensor(one):
        return [] if torch.is_tensor(two) and torch.equal(one, two) else [name]
    if isinstance(one, dict):
        return [path for key in one for path in _different(f"{name}.{key}", one[key], two[key])]
    if isinstance(one, list):
        return [path for number, item in enumerate(one) for path in _different(f"{name}.{number}", item, two[number])]
    return [] if one == two else [name]
