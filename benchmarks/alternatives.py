#!/usr/bin/env python3
"""Alternatives for each piece of the model on CPU, timed in turns: what the package does, and what else is possible.

    python -m benchmarks.alternatives               # D 256, H 1024, B 16, T 256, C 5000, as in speed.py's `small`

Prints a table, and with --out also writes it. The first row of each piece is what the package does.
"""

import argparse
import math
import sys
import time
from statistics import median
from typing import Callable, Dict, List, Optional, Tuple

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.models import CASES
from benchmarks.page import show
from experiments.harness.markdown import table
from fairseq_sharnn.modules.boom import Boom
from fairseq_sharnn.modules.sha_rnn import SHARNN
from fairseq_sharnn.ops import kernels
from fairseq_sharnn.ops.attend import attend, attend_plain
from fairseq_sharnn.ops.dropout import dropout, dropout_plain, keep_mask, keep_scale
from fairseq_sharnn.ops.lstm import lstm

Work = Callable[[], object]
CASE = CASES["small"]
WIDTH, LANES, LENGTH, ROWS, RATE = CASE.width, CASE.lanes, CASE.length, CASE.context, CASE.dropout
CPU = torch.device("cpu")


def forward_and_backward(run: Callable[[Tensor], Tensor]) -> Work:
    """`run` on [T, B, D] and its gradient."""
    x, upstream = torch.randn(LENGTH, LANES, WIDTH), torch.randn(LENGTH, LANES, WIDTH)
    return lambda: run(x.detach().requires_grad_()).backward(upstream)


def lstm_rows() -> Dict[str, Work]:
    module = torch.nn.LSTM(WIDTH, WIDTH)
    state = torch.zeros(LANES, WIDTH)
    return {
        "kernel: lanes dealt out to threads": forward_and_backward(
            lambda x: lstm(x, list(module.parameters()), state, state, True)[0]
        ),
        "torch.nn.LSTM (oneDNN)": forward_and_backward(lambda x: module(x)[0]),
    }


def attention_rows() -> Dict[str, Work]:
    past = torch.randn(LANES, ROWS - LENGTH, WIDTH)
    scale = 1 / math.sqrt(WIDTH)

    def by(function) -> Work:
        def run(x: Tensor) -> Tensor:
            chunk = x.transpose(0, 1)
            segments = (past, chunk.detach().contiguous())
            return function(chunk * scale, chunk, segments).transpose(0, 1)

        return forward_and_backward(run)

    return {
        "kernel: tiles, weights computed again": by(lambda q, c, s: attend(q, c, s, 1, RATE)),
        "products of a lane at a time, weights and masks stored": by(lambda q, c, s: attend_plain(q, c, s, 1, RATE)),
        "scaled_dot_product_attention (no dropout on values, gradient of all rows)": by(_sdpa),
    }


def _sdpa(q: Tensor, chunk: Tensor, segments: Tuple[Tensor, ...]) -> Tensor:
    rows = torch.cat([segments[0], chunk], dim=1)[:, None]
    seen = torch.ones(LENGTH, rows.size(2), dtype=torch.bool).tril(rows.size(2) - LENGTH)
    return F.scaled_dot_product_attention(q[:, None], rows, rows, attn_mask=seen, dropout_p=RATE, scale=1.0)[:, 0]


def boom_rows() -> Dict[str, Work]:
    boom = Boom(CASE.sizes(), RATE)

    def pointwise(a: Tensor, mask: Tensor) -> Tensor:
        return (a * torch.sigmoid(1.702 * a) * mask).unflatten(-1, (-1, WIDTH)).sum(-2) * keep_scale(RATE, CPU)

    compiled = torch.compile(pointwise, dynamic=True)

    def by(function) -> Work:
        def run(x: Tensor) -> Tensor:
            a = boom.expand(x)
            return function(a, keep_mask(a.shape, RATE, CPU))

        return forward_and_backward(run)

    return {
        "kernel: one pass each way, mask from a seed": forward_and_backward(boom),
        "torch.compile of the pointwise part": by(compiled),
        "plain operations": by(pointwise),
    }


def dropout_rows() -> Dict[str, Work]:
    return {
        "kernel: mask from a seed": forward_and_backward(lambda x: dropout(x, RATE, True)),
        "16 bits of a random word an element": forward_and_backward(lambda x: dropout_plain(x, RATE)),
        "torch's dropout": forward_and_backward(lambda x: F.dropout(x, RATE, True)),
    }


def step_rows() -> Dict[str, Work]:
    network = SHARNN(CASE.sizes(), CASE.rates()).eval()
    network.collapse()
    with torch.no_grad():
        _, state = network(torch.randint(4, 260, (ROWS, 1)))
    token = torch.randint(4, 260, (1, 1))

    def by_layers() -> None:
        with torch.no_grad():
            h = network.embed(token)
            for block, before in zip(network.blocks, state.layers):
                h, _ = block(h, before)

    def by_kernel() -> None:
        with torch.no_grad():
            network(token, state)

    return {"kernel: all layers in one operator": by_kernel, "the modules, layer after layer": by_layers}


PIECES = {
    "LSTM, a layer, forward and backward": lstm_rows,
    "attention, forward and backward": attention_rows,
    "Boom, a layer, forward and backward": boom_rows,
    "dropout of [T, B, D], forward and backward": dropout_rows,
    "one step of one lane through the network": step_rows,
}


def time_in_turns(work: Dict[str, Work], repeats: int) -> Dict[str, Tuple[float, float]]:
    """Seconds of the first call, and the median of the others."""
    taken: Dict[str, List[float]] = {name: [] for name in work}
    for _ in range(repeats + 1):
        for name, call in work.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: (seconds[0], median(seconds[1:])) for name, seconds in taken.items()}


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", help="also write the report to this file")
    args = parser.parse_args(arguments)
    if kernels.ops is None:
        parser.error("the CPU kernels are not compiled here: install the package where there is a C++ compiler")
    if 4 * args.threads > LANES:
        parser.error(f"--threads {args.threads}: the LSTM kernel takes {LANES} lanes on at most {LANES // 4} threads")
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    rows = []
    for piece, make in PIECES.items():
        for name, (first, later) in time_in_turns(make(), args.repeats).items():
            rows.append([piece, name, f"{later * 1e3:.2f} ms", f"{first:.1f} s" if first > 1.0 else ""])
            piece = ""
    body = [
        f"D {WIDTH}, H {CASE.boom_width}, B {LANES}, T {LENGTH}, C {ROWS}, dropout {RATE}; measured in turns, medians of "
        f"{args.repeats}.",
        "",
        *table(["piece", "way", "time", "first call, where it takes over 1 s"], rows),
    ]
    show("Alternatives", "alternatives", arguments, args.threads, body, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
