"""Compare model and optimizer with golden tensors, whose format tests/golden/README.md describes."""

import json
import math
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Dict

import numpy as np
import torch

from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNDropout, SHARNNSizes
from fairseq_sharnn.optim.lamb import LambMinTrust

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
# What reading a file of another format may raise.
NOT_GOLDEN = (OSError, ValueError, KeyError, EOFError, AttributeError, RuntimeError, TypeError, zipfile.BadZipFile)
NO_DROPOUT = SHARNNDropout(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Errors:
    """Largest relative error seen of each kind of tensor, with the name of the worst one."""

    def __init__(self):
        self.worst = defaultdict(lambda: (0.0, ""))

    def add(self, kind: str, name: str, ours: torch.Tensor, golden: np.ndarray) -> None:
        expected = torch.from_numpy(np.asarray(golden, dtype=np.float64))
        if ours.shape != expected.shape:
            raise ValueError(f"{name} has shape {tuple(ours.shape)}, the golden one {tuple(expected.shape)}")
        largest = expected.abs().max().item() if expected.numel() else 0.0
        difference = (ours.detach().cpu().double() - expected).abs().max().item() if expected.numel() else 0.0
        error = difference / largest if largest > 0 else difference
        if math.isnan(error):  # the worst of all, which no later error may hide
            error = math.inf
        if error >= self.worst[kind][0]:
            self.worst[kind] = (error, name)

    def report(self, path: str, dtype: torch.dtype) -> bool:
        """Print the line of one file and precision. Returns whether every error is within the tolerance."""
        within = all(error <= TOLERANCE[dtype] for error, _ in self.worst.values())
        figures = "  ".join(f"{kind} {error:.1e}" for kind, (error, _) in self.worst.items())
        print(f"{'ok  ' if within else 'FAIL'} {Path(path).name:26s} {str(dtype)[6:]:8s} {figures}")
        if not within:
            error, name = max(self.worst.values())
            print(f"     worst: {name} at {error:.1e}, allowed {TOLERANCE[dtype]:.0e}")
        return within


def our_name(golden: str) -> str:
    """Translate a golden parameter name into the name in `SHARNN.named_parameters()`."""
    if golden == "output.bias":
        return "output_bias"
    if not golden.startswith("layer"):
        return golden
    layer, _, rest = golden.partition(".")
    rest = rest.replace("boom.", "boom.expand.", 1) if rest.startswith("boom.") else rest
    if rest.startswith("lstm."):
        rest += "_l0"
    if rest.startswith("attn."):
        rest = rest.replace("attn.", "attention.", 1)
        rest = rest.replace("value_gate", "value.gate").replace("value_overparam", "value.expand")
    return f"blocks.{layer[len('layer') :]}.{rest}"


def check_model(npz, meta: Dict, dtype: torch.dtype, device: str) -> Errors:
    """Run the case's chunks through SHARNN and compare logits, loss, gradients, LSTM state and memory."""
    sizes = SHARNNSizes(
        vocab=meta["vocab"],
        width=meta["embed_dim"],
        boom_width=meta["boom_dim"],
        layers=meta["layers"],
        attention_layers=tuple(meta["attention_layers"]),
        heads=meta["heads"],
        context=meta["context"],
    )
    model = SHARNN(sizes, NO_DROPOUT).to(device=device, dtype=dtype)
    parameters = dict(model.named_parameters())
    names = {key[len("param/") :]: our_name(key[len("param/") :]) for key in npz.files if key.startswith("param/")}
    if set(names.values()) != set(parameters):
        raise ValueError(f"parameters differ from the model's: {sorted(set(names.values()) ^ set(parameters))}")
    with torch.no_grad():
        for golden, ours in names.items():
            parameters[ours].copy_(torch.from_numpy(npz[f"param/{golden}"]))

    errors, state, start = Errors(), None, 0
    tokens = torch.from_numpy(npz["tokens"]).to(device)
    for index, length in enumerate(meta["chunks"]):
        model.zero_grad(set_to_none=True)
        features, state = model(tokens[start : start + length], state)
        logits = model.logits(features)
        target = tokens[start + 1 : start + length + 1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
        loss.backward()
        start += length
        chunk = f"chunk{index}"
        errors.add("logits", f"{chunk}/logits", logits, npz[f"{chunk}/logits"])
        errors.add("loss", f"{chunk}/loss", loss, npz[f"{chunk}/loss"])
        for golden, ours in names.items():
            grad = parameters[ours].grad
            errors.add("gradients", f"{chunk}/grad/{golden}", grad, npz[f"{chunk}/grad/{golden}"])
        for number, layer in enumerate(state.layers):
            prefix = f"{chunk}/layer{number}"
            errors.add("lstm", f"{prefix}.lstm.h", layer.hidden, npz[f"{prefix}.lstm.h"])
            errors.add("lstm", f"{prefix}.lstm.c", layer.cell, npz[f"{prefix}.lstm.c"])
            if layer.memory is not None:
                rows = layer.memory.rows.transpose(0, 1)
                errors.add("memory", f"{prefix}.memory", rows, npz[f"{prefix}.memory"])
    return errors


def check_optimizer(npz, meta: Dict, dtype: torch.dtype, device: str) -> Errors:
    """Run LAMB over the recorded gradients and compare parameters and trust ratios after every step."""
    errors = Errors()
    for number, case in enumerate(meta["cases"]):
        prefix = f"case{number}"
        parameters = [
            torch.nn.Parameter(torch.from_numpy(npz[f"{prefix}/param{i}/step0"]).to(device=device, dtype=dtype))
            for i in range(meta["params"])
        ]
        optimizer = LambMinTrust(
            parameters,
            lr=case["lr"],
            betas=tuple(case.get("betas", (0.9, 0.999))),
            eps=case.get("eps", 1e-6),
            weight_decay=case["weight_decay"],
            min_trust=case.get("min_trust") or 0.0,
            keep_trust=True,
        )
        for step in range(1, meta["steps"] + 1):
            for i, parameter in enumerate(parameters):
                grad = torch.from_numpy(npz[f"{prefix}/param{i}/grad{step}"])
                parameter.grad = grad.to(device=device, dtype=dtype)
            optimizer.step()
            for i, parameter in enumerate(parameters):
                name = f"{prefix}/param{i}"
                errors.add("parameters", f"{name}/step{step}", parameter, npz[f"{name}/step{step}"])
                trust = optimizer.trust_ratios[parameter]
                errors.add("trust", f"{name}/trust{step}", trust, npz[f"{name}/trust{step}"])
    return errors


def check_file(path: str, device: str = "cpu") -> bool:
    """Check one golden file in both precisions and print the outcome. Returns whether it passed."""
    passed = True
    try:
        with np.load(path) as npz:
            meta = json.loads(str(npz["meta"]))
            check = check_optimizer if "cases" in meta else check_model
            for dtype in TOLERANCE:
                passed &= check(npz, meta, dtype, device).report(path, dtype)
    except NOT_GOLDEN as error:
        print(f"FAIL {path}: {str(error) or type(error).__name__}")
        return False
    return passed
