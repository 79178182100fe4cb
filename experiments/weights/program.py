"""Make a checkpoint the model of the package: export it, measure it, write its card, and exchange the files.

    scripts/ship_weights.py CHECKPOINT --data DATA

DATA has the files train, valid and test of the training. Everything is measured before a file of the package changes.
"""

import argparse
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch

from experiments.weights import measure
from experiments.weights.card import card
from experiments.weights.training_command import in_lines, training_command
from fairseq_sharnn.errors import UsageError, exit_with_one_line
from fairseq_sharnn.files import write_whole
from fairseq_sharnn.portable.checkpoint import read_checkpoint
from fairseq_sharnn.portable.config import DTYPES, PortableConfig
from fairseq_sharnn.portable.export import export
from fairseq_sharnn.portable.loading import load, read_folder
from fairseq_sharnn.portable.shipped import CARD, CONFIG, SHIPPED, WEIGHTS

ABOUT = Path(__file__).parent / "books.md"
ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 4_000_000  # of the weights


@exit_with_one_line()
def main(arguments: Optional[List[str]] = None) -> int:
    args = _parser().parse_args(arguments)
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    data, test = Path(args.data), _test_split(Path(args.data))
    lengths = measure.Lengths(args.bytes, args.learn)
    if min(lengths) < 1:
        raise UsageError("--bytes and --learn must be at least 1")
    parts = read_checkpoint(Path(args.checkpoint))
    state = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    parts = parts._replace(config=_with_bytes_read(parts.config, state))
    training = in_lines(training_command(state["cfg"]))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "books"
        export(parts, out, args.dtype)
        size = (out / WEIGHTS).stat().st_size
        if size > MOST_BYTES:
            raise UsageError(f"the weights have {size:,} bytes, more than {MOST_BYTES:,}: choose --dtype float16")
        model, kept = load(out), read_folder(out)
        figures = measure.quality(model, test, lengths, args.dynamic_lr)
        pin, drawn = measure.pinned(model, ROOT / measure.PINNED), measure.samples(model)
        rows = [
            [split, f"{(data / split).stat().st_size:,}", measure.digest(data / split)]
            for split in ("train", "valid", "test")
        ]
        about = Path(args.about).read_text(encoding="utf-8")
        text = card(kept.config, kept.tensors, about, rows, training, figures, pin, drawn)
        files = {WEIGHTS: (out / WEIGHTS).read_bytes(), CONFIG: (out / CONFIG).read_bytes(), CARD: text}
    Path(args.out).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_whole(Path(args.out) / name, content)
    for figure in (*figures, pin):
        print(f"{figure.what}, {figure.count:,} bytes: {figure.result}")
    print(f"{args.out}: {size:,} bytes of weights in {args.dtype}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("--data", metavar="DATA", required=True, help="the DATA folder of the training")
    parser.add_argument("--out", metavar="OUT", default=str(SHIPPED), help="default: the folder of the package's model")
    parser.add_argument("--about", metavar="FILE", default=str(ABOUT), help="the card's part on texts and licence")
    parser.add_argument("--dtype", choices=DTYPES, default="float16", help="of the stored weights (default: float16)")
    parser.add_argument("--bytes", type=int, default=1_000_000, help="of the test split to score (default: 1000000)")
    parser.add_argument(
        "--learn", type=int, default=100_000, help="of them for dynamic evaluation and compress (default: 100000)"
    )
    parser.add_argument("--dynamic-lr", type=float, default=5e-4, help="of dynamic evaluation (default: 5e-4)")
    return parser


def _test_split(data: Path) -> bytes:
    """The test split. Raises UsageError if a split is missing or the test is empty."""
    for split in ("train", "valid", "test"):
        if not (data / split).is_file() or not (data / split).stat().st_size:
            raise UsageError(
                f"--data {data} has no file {split}, or an empty one: name the DATA folder of the training"
            )
    return (data / "test").read_bytes()


def _with_bytes_read(config: PortableConfig, state: Dict[str, Any]) -> PortableConfig:
    """The configuration with the number of bytes read, where the meters of the checkpoint have counted every update."""
    meters = {name: values for _, name, _, values in (state["extra_state"].get("metrics") or {}).get("train", [])}
    counted = meters.get("wpb", {})
    if counted.get("count") != config.trained.get("updates"):
        return config
    trained = {name: value for name, value in config.trained.items() if name != "bytes_read_at_most"}
    return replace(config, trained={**trained, "bytes_read": int(counted["sum"])})
