#!/usr/bin/env python3
"""Does a speed change keep the numbers? Train this package and reference.py on the same bytes and compare every loss.

    python -m benchmarks.loss_compare --updates 100

Both have the same parameters and the same optimizer, and carry their state from chunk to chunk. They train without dropout
in float64 and float32. Where the CPU kernels run they also train with the published dropout: reference.py then uses the
masks that the kernels drew. Exits 1 if a loss differs by more than rounding explains.
"""

import argparse
import json
import sys
from typing import Callable, Dict, List, Optional

import torch
from torch.nn import functional as F

from fairseq_sharnn import reference as plain
from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNDropout, SHARNNSizes
from fairseq_sharnn.ops import kernels
from fairseq_sharnn.optim.lamb import LambMinTrust

SIZES = SHARNNSizes(vocab=260, width=64, boom_width=256, layers=4, attention_layers=(2,), context=500)
LANES, LENGTH = 16, 64
# Nats, over 100 updates with the published warm-up. In a faster warm-up the loss has a spike, which multiplies rounding a
# millionfold.
ALLOWED = {torch.float64: 1e-11, torch.float32: 5e-5}


def _calls_of_dropout(seeds: List[int]) -> List[Callable[[torch.Tensor, float], torch.Tensor]]:
    """The factors for each call of dropout in reference.py in one update, from the seeds that the package drew in it.

    Both go input; by layer: LSTM output, (query, attention, its output), Boom, its output; output. The one seed of
    attention serves two calls: the values [S + T, B, D], lane by lane, and the weights [B, n, T, S + T].
    """

    def straight(seed: int):
        return lambda x, rate: kernels.ops.dropout_factors(x[..., 0].numel(), x.size(-1), rate, seed).view(x.shape)

    def by_lane(seed: int):
        return lambda x, rate: straight(seed)(x.transpose(0, 1), rate).transpose(0, 1)

    calls, left = [], iter(seeds)
    for layer in range(SIZES.layers):
        calls.append(straight(next(left)))  # the input before the first layer, Boom's output before the others
        calls.append(straight(next(left)))
        if layer in SIZES.attention_layers:
            calls.append(straight(next(left)))
            attention = next(left)
            calls += [by_lane(attention ^ kernels.VALUE_KEY), straight(attention)]
            calls.append(straight(next(left)))
        calls.append(straight(next(left)))
    return [*calls, straight(next(left)), straight(next(left))]


def _train(updates: int, dtype: torch.dtype, rate: float, device: str) -> Dict[str, List[float]]:
    """Losses in nats of both, update by update, from the same start on the same bytes."""
    text = torch.frombuffer(bytearray(_text((updates * LENGTH + 1) * LANES)), dtype=torch.uint8).long() + 4
    lanes = text.view(LANES, -1).t().to(device)  # [updates · T + 1, B]
    rates = SHARNNDropout(rate, rate, rate, rate, rate, 0.0)
    torch.manual_seed(1)
    ours, naive = SHARNN(SIZES, rates), plain.PlainSHARNN(SIZES, rates)
    naive.load_state_dict(ours.state_dict())
    sides = {}
    for name, model in (("fairseq_sharnn", ours), ("plain", naive)):
        model.to(device=device, dtype=dtype).train()
        optimizer = LambMinTrust(model.parameters(), lr=2e-3)
        sides[name] = {"model": model, "optimizer": optimizer, "state": None, "losses": []}

    draw, drop, seeds = kernels.draw_seed, F.dropout, []

    def recorded() -> int:
        seeds.append(draw())
        return seeds[-1]

    for update in range(updates):
        chunk = lanes[update * LENGTH : (update + 1) * LENGTH + 1]
        for name, side in sides.items():
            if name == "fairseq_sharnn":
                seeds.clear()
                kernels.draw_seed = recorded
            elif rate > 0.0:
                calls = iter(_calls_of_dropout(seeds))
                F.dropout = lambda x, rate, training, calls=calls: x * next(calls)(x, rate)
            try:
                features, side["state"] = side["model"](chunk[:-1], side["state"])
            finally:
                kernels.draw_seed, F.dropout = draw, drop
            loss = F.cross_entropy(side["model"].logits(features).flatten(0, 1), chunk[1:].flatten())
            side["optimizer"].zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(side["model"].parameters(), 0.25)
            for group in side["optimizer"].param_groups:
                group["lr"] = 2e-3 * min(update + 1, 800) / 800  # as published
            side["optimizer"].step()
            side["losses"].append(loss.item())
    return {name: side["losses"] for name, side in sides.items()}


def _text(size: int) -> bytes:
    """English that is on every machine: Python's own documentation topics, over again where it is short."""
    import pydoc_data.topics

    with open(pydoc_data.topics.__file__, "rb") as file:
        text = file.read()
    return (text * (size // len(text) + 1))[:size]


def compare(updates: int, device: str) -> List[Dict]:
    """A row for each setting: first and last loss (nats), the largest difference, what is allowed."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32
    settings = [(torch.float64, 0.0), (torch.float32, 0.0)]
    if kernels.ops is not None and device == "cpu":
        settings.append((torch.float32, 0.1))
    rows = []
    for dtype, rate in settings:
        losses = _train(updates, dtype, rate, device)
        ours, naive = losses["fairseq_sharnn"], losses["plain"]
        worst = max(abs(a - b) for a, b in zip(ours, naive))
        rows.append(
            {
                "type": str(dtype)[len("torch.") :],
                "dropout": rate,
                "updates": updates,
                "first": ours[0],
                "last": ours[-1],
                "last_plain": naive[-1],
                "largest_difference": worst,
                "allowed": ALLOWED[dtype],
                "same": worst <= ALLOWED[dtype],
            }
        )
    return rows


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    args = parser.parse_args(arguments)
    rows = compare(args.updates, args.device)
    if args.json:
        print(json.dumps(rows))
    for row in [] if args.json else rows:
        print(
            f"{'ok  ' if row['same'] else 'FAIL'} {row['type']}, dropout {row['dropout']}: loss {row['first']:.4f} -> "
            f"{row['last']:.4f} nats in {row['updates']} updates (reference.py {row['last_plain']:.4f}); largest difference "
            f"{row['largest_difference']:.1e}, allowed {row['allowed']:.0e}"
        )
    return 0 if all(row["same"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
