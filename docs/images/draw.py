#!/usr/bin/env python3
"""Draw the two diagrams of the documentation: docs/images/draw.py [FOLDER] [--format svg]

block.svg: one block of the model. walk.svg: from a file to a loss, and from a checkpoint to text.
"""

import argparse
from pathlib import Path
from typing import Sequence, Tuple

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

INK = "#1f2328"
GREY = "#57606a"
# Colour-blind safe fills, each light enough for dark text.
FILL = {
    "norm": "#eaeef2",
    "lstm": "#b6d7f5",
    "attention": "#fbd3a8",
    "memory": "#fdf0b5",
    "boom": "#bfe6c8",
    "file": "#fdf0b5",
    "data": "#eaeef2",
    "fairseq": "#ffffff",
    "model": "#b6d7f5",
    "state": "#fbd3a8",
    "result": "#bfe6c8",
}
Point = Tuple[float, float]


class Picture:
    """A drawing of boxes and arrows on a white card, which also reads well on a dark page."""

    def __init__(self, width: float, height: float):
        self.figure, self.axes = plt.subplots(figsize=(width, height))
        axes: Axes = self.axes
        axes.set_xlim(0, width)
        axes.set_ylim(0, height)
        axes.set_aspect("equal")
        axes.axis("off")
        self.figure.subplots_adjust(0, 0, 1, 1)
        card = FancyBboxPatch((0.1, 0.1), width - 0.2, height - 0.2, boxstyle="round,pad=0,rounding_size=0.15")
        card.set(facecolor="white", edgecolor="#d0d7de", linewidth=1.0)
        axes.add_patch(card)

    def box(self, center: Point, size: Point, kind: str, title: str, note: str = "") -> None:
        """A box with a bold title and smaller notes below it."""
        (x, y), (width, height) = center, size
        shape = FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.09"
        )
        shape.set(facecolor=FILL[kind], edgecolor=INK, linewidth=1.1)
        self.axes.add_patch(shape)
        lines = note.count("\n") + 1 if note else 0
        self.axes.text(x, y + 0.095 * lines, title, ha="center", va="center", fontsize=11, color=INK, weight="bold")
        if note:
            self.axes.text(x, y - 0.13, note, ha="center", va="center", fontsize=9, color=INK, linespacing=1.25)

    def arrow(self, points: Sequence[Point], dashed: bool = False, color: str = INK) -> None:
        """Lines through the points, with a head at the last one."""
        style = {"color": color, "linewidth": 1.4, "linestyle": "--" if dashed else "-"}
        for (x0, y0), (x1, y1) in zip(points[:-2], points[1:-1]):
            self.axes.plot([x0, x1], [y0, y1], solid_capstyle="round", **style)
        head = FancyArrowPatch(
            points[-2], points[-1], arrowstyle="-|>", mutation_scale=12, shrinkA=0, shrinkB=0, **style
        )
        self.axes.add_patch(head)

    def plus(self, x: float, y: float) -> None:
        self.axes.add_patch(Circle((x, y), 0.17, facecolor="white", edgecolor=INK, linewidth=1.3, zorder=3))
        self.axes.text(x, y - 0.01, "+", ha="center", va="center", fontsize=14, color=INK, zorder=4)

    def label(self, x: float, y: float, text: str, **options) -> None:
        self.axes.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": 9, "color": GREY, **options})

    def save(self, path: Path) -> None:
        """Write the file. The bytes of an SVG depend on the drawing only, not on the date."""
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        with matplotlib.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "path"}):
            self.figure.savefig(path, transparent=True, metadata=metadata, dpi=100)
        plt.close(self.figure)


def block() -> Picture:
    """One block as the paper's figure 1 has it, from left to right."""
    picture, y = Picture(12.6, 4.5), 1.5
    high = 2.55
    picture.label(0.5, y, "h", fontsize=13, style="italic", color=INK)
    picture.box((1.55, y), (1.1, 0.7), "norm", "LayerNorm")
    picture.box((3.1, y), (1.2, 0.95), "lstm", "LSTM", "D to D")
    picture.box((5.15, y), (1.1, 0.7), "norm", "LayerNorm")
    picture.box((7.15, high), (1.55, 0.95), "attention", "Attention", "one head")
    picture.box((5.0, 3.5), (2.1, 0.95), "memory", "Memory", "at most C rows")
    picture.box((3.1, 3.5), (1.1, 0.7), "norm", "LayerNorm")
    picture.box((9.2, high), (1.1, 0.7), "norm", "LayerNorm")
    picture.box((10.6, high), (1.2, 0.95), "boom", "Boom", "D to H,\nfold to D")
    picture.box((9.2, y), (1.1, 0.7), "norm", "LayerNorm")
    for start, end in ((0.65, 1.0), (2.1, 2.5), (3.7, 4.6), (5.7, 8.03), (8.37, 8.65), (9.75, 11.43), (11.77, 12.1)):
        picture.arrow([(start, y), (end, y)])
    picture.plus(8.2, y)
    picture.plus(11.6, y)
    picture.label(12.3, y, "h", fontsize=13, style="italic", color=INK)
    picture.arrow([(4.1, y), (4.1, 2.55), (3.1, 2.55), (3.1, 3.15)])
    picture.arrow([(3.65, 3.5), (3.95, 3.5)])
    picture.arrow([(6.05, 3.5), (7.15, 3.5), (7.15, high + 0.475)])
    picture.label(7.27, 3.5, "keys and values", ha="left")
    picture.arrow([(6.0, y), (6.0, high), (6.375, high)])
    picture.label(5.9, 2.2, "query", ha="right")
    picture.arrow([(7.925, high), (8.2, high), (8.2, y + 0.17)])
    picture.arrow([(8.5, y), (8.5, high), (8.65, high)])
    picture.arrow([(9.75, high), (10.0, high)])
    picture.arrow([(11.2, high), (11.6, high), (11.6, y + 0.17)])
    picture.arrow([(3.4, 1.02), (3.4, 0.6), (2.8, 0.6), (2.8, 1.02)], dashed=True, color=GREY)
    picture.label(3.1, 0.4, "carried to the next chunk")
    picture.arrow([(4.6, 3.975), (4.6, 4.25), (5.4, 4.25), (5.4, 3.975)], dashed=True, color=GREY)
    picture.label(5.52, 4.22, "carried to the next chunk", ha="left")
    picture.label(9.2, 0.4, "Dropout follows the LSTM, attention and Boom.")
    return picture


def walk() -> Picture:
    """The two walks of docs/architecture.md."""
    picture, top, size = Picture(12.6, 6.0), 4.45, (1.95, 1.0)
    picture.label(0.4, 5.45, "A byte, from the file to the loss", ha="left", fontsize=12, color=INK, weight="bold")
    first = (
        (1.35, "file", "DATA/train", "raw bytes"),
        (3.8, "data", "data/corpora", "memory map"),
        (6.3, "data", "data/streams", "B lanes, chunks of T"),
        (8.8, "model", "models, modules", "embedding, blocks,\ntied output"),
        (11.25, "result", "criterion", "nats, then\nbits per byte"),
    )
    for x, kind, title, note in first:
        picture.box((x, top), size, kind, title, note)
    for start, end in ((2.33, 2.82), (4.78, 5.32), (7.28, 7.82), (9.78, 10.27)):
        picture.arrow([(start, top), (end, top)])
    picture.box((7.55, 2.95), (2.6, 0.8), "state", "StreamCarrier", "LSTM state and memory of each lane")
    picture.arrow([(8.55, 3.95), (8.55, 3.35)], dashed=True)
    picture.arrow([(8.0, 3.35), (8.0, 3.95)], dashed=True)
    picture.label(8.68, 3.63, "after chunk k", ha="left")
    picture.label(7.88, 3.63, "before chunk k", ha="right")
    picture.arrow([(6.25, 2.85), (3.4, 2.85)], dashed=True)
    picture.arrow([(3.4, 3.05), (6.25, 3.05)], dashed=True)
    picture.box((2.35, 2.95), (2.1, 0.8), "file", "checkpoint", "also holds the state")
    picture.label(4.85, 3.22, "restored in a resume")
    picture.label(4.85, 2.67, "saved")
    picture.label(0.4, 2.0, "A checkpoint, to text", ha="left", fontsize=12, color=INK, weight="bold")
    second = (
        (1.35, "file", "checkpoint", "weights, settings"),
        (3.8, "fairseq", "from_pretrained", "models/sha_rnn.py"),
        (6.3, "data", "encode_text", "prompt to ids"),
        (8.8, "model", "one step", "logits and new state"),
        (11.25, "result", "draw", "temperature,\ntop-k, top-p"),
    )
    for x, kind, title, note in second:
        picture.box((x, 1.2), (1.95, 0.9), kind, title, note)
    for start, end in ((2.33, 2.82), (4.78, 5.32), (7.28, 7.82), (9.78, 10.27)):
        picture.arrow([(start, 1.2), (end, 1.2)])
    picture.arrow([(11.25, 0.75), (11.25, 0.45), (8.8, 0.45), (8.8, 0.75)])
    picture.label(10.02, 0.3, "the byte drawn is the next input")
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--format", default="svg", help="svg (the committed form) or png")
    args = parser.parse_args()
    for name, draw in (("block", block), ("walk", walk)):
        draw().save(args.folder / f"{name}.{args.format}")


if __name__ == "__main__":
    main()
