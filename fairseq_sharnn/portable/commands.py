"""The commands that need torch: export, sample, score."""

import argparse
import json
import sys
from pathlib import Path
from typing import BinaryIO, Dict, List

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.evaluation.dynamic import DynamicSettings, settings_of
from fairseq_sharnn.portable.checkpoint import read_checkpoint
from fairseq_sharnn.portable.export import export, staged
from fairseq_sharnn.portable.loading import load
from fairseq_sharnn.portable.model import Model
from fairseq_sharnn.portable.sampling import Piece, Settings
from fairseq_sharnn.portable.scoring import Score


def run_export(options: argparse.Namespace) -> None:
    """`export CHECKPOINT OUT`"""
    out = Path(options.out)
    if out.exists():  # before the checkpoint is read
        with staged(out):
            pass
    if Path(options.checkpoint).is_dir():
        raise UsageError(f"{options.checkpoint} is a folder: name a checkpoint file, such as checkpoint_best.pt in it")
    parts = read_checkpoint(Path(options.checkpoint), options.data)
    onnx = options.onnx or options.int8
    text = None if options.text is None else _read(options.text)
    export(parts, out, options.dtype, options.trainable, onnx, options.int8, text, say=print)
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"{out}: {len(list(out.iterdir()))} files, {size / 1e6:.1f} MB")


def run_sample(options: argparse.Namespace) -> None:
    """`sample`: prints each sample as it is drawn, one after the other."""
    if options.count < 1:
        raise UsageError(f"--count must be at least 1, but it is {options.count}")
    settings = Settings(options.length, options.temperature, options.top_k, options.top_p)
    prompts = [options.prompt.encode("utf-8", "surrogateescape")]
    if options.prompts is not None:
        prompts = _prompts(options.prompts)
    model = load(options.model, options.device, options.dtype, options.data, options.weights)
    seeds = [None if options.seed is None else options.seed + number for number in range(options.count)]
    each = [(prompt, seed) for prompt in prompts for seed in seeds]
    printer = _InOrder(sys.stdout, titled=len(each) > 1)
    for piece in model.draw([prompt for prompt, _ in each], settings, [seed for _, seed in each]):
        printer.add(piece)


def _prompts(path: str) -> List[bytes]:
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read --prompts {path}: {error.strerror or error}") from None
    prompts = data.split(b"\n")
    if prompts[-1] == b"":
        prompts.pop()
    if not prompts:
        raise UsageError(f"--prompts {path} is empty: write one prompt a line")
    return prompts


class _InOrder:
    """Prints pieces: the first unfinished sample at once, the ones after it when their turn comes.

    Bytes that are no UTF-8 are shown as \\xNN; a character is shown when its last byte is there.
    """

    def __init__(self, out, titled: bool):
        self._out, self._titled = out, titled
        self._turn = 0
        self._waiting: Dict[int, List[Piece]] = {}
        self._open = b""

    def add(self, piece: Piece) -> None:
        self._waiting.setdefault(piece.number, []).append(piece)
        while self._turn in self._waiting:
            ended = False
            for waiting in self._waiting.pop(self._turn):
                ended = self._print(waiting)
            if not ended:
                break
            self._turn += 1
            self._titled_yet = False

    _titled_yet = False

    def _print(self, piece: Piece) -> bool:
        if self._titled and not self._titled_yet:
            self._out.write(f"--- {piece.number + 1}\n")
            self._titled_yet = True
        text, self._open = _shown(self._open + piece.text, piece.last)
        self._out.write(text + ("\n" if piece.last else ""))
        self._out.flush()
        return piece.last


def _shown(data: bytes, last: bool) -> "tuple[str, bytes]":
    """The text of bytes, and the bytes of a character that is not complete yet."""
    if not last:
        for length in range(1, min(4, len(data) + 1)):
            try:
                data[-length:].decode("utf-8")
                break
            except UnicodeDecodeError as error:
                if error.reason == "unexpected end of data" and error.start == 0:
                    return data[:-length].decode("utf-8", "backslashreplace"), data[-length:]
    return data.decode("utf-8", "backslashreplace"), b""


def dynamic_settings(options: argparse.Namespace) -> DynamicSettings:
    """The settings of dynamic evaluation in a command's options. Raises UsageError for values out of range."""
    return settings_of(options)


def run_score(options: argparse.Namespace) -> None:
    """`score FILE...`: a line for each file, and one for all of them. Each file starts with the trained weights.

    With narrow weights each file is also scored with those in float32, and the difference is printed.
    """
    dynamic = dynamic_settings(options)
    if dynamic.learns and options.weights != "float32":
        raise UsageError(f"--weights {options.weights} cannot learn: leave out --weights or --dynamic-lr")
    texts = {name: _read(name) for name in options.files}
    model = load(options.model, options.device, options.dtype, options.data, options.weights)
    scores, exact = _scores(model, texts, options, dynamic), None
    if options.weights != "float32":
        exact = _scores(load(options.model, options.device, options.dtype, options.data), texts, options, dynamic)
    if options.json:
        found = {"files": _figures(scores), "all": _sum(scores).figures(), "model": str(options.model)}
        if exact is not None:
            found.update(weights=options.weights, float32={"files": _figures(exact), "all": _sum(exact).figures()})
        print(json.dumps(found, indent=1))
        return
    for name in [*scores, *(["all"] if len(scores) > 1 else [])]:
        score = scores[name] if name in scores else _sum(scores)
        _report(name, score, f"{model.codec.unit}s")
        if exact is not None:
            before = (exact[name] if name in exact else _sum(exact)).bits_per_byte
            cost = f"{score.bits_per_byte - before:+.5f} bits per byte"
            print(f"  {options.weights} weights cost {cost}: {before:.4f} in float32")


def _scores(
    model: Model, texts: Dict[str, bytes], options: argparse.Namespace, dynamic: DynamicSettings
) -> Dict[str, Score]:
    """The score of each text, with a progress bar."""
    from tqdm import tqdm

    scores: Dict[str, Score] = {}
    total = sum(len(text) for text in texts.values())
    of_bytes = model.codec.unit == "byte"
    with tqdm(total=total, unit="B", unit_scale=True, desc="scoring", file=sys.stderr, mininterval=0.5) as bar:
        for name, text in texts.items():
            cut = (options.lanes, options.chunk, options.context_window)
            scores[name] = model.score(text, *cut, name, lambda count: bar.update(count if of_bytes else 0), dynamic)
            if not of_bytes:
                bar.update(len(text))
    return scores


def _sum(scores: Dict[str, Score]) -> Score:
    first, *others = scores.values()
    return sum(others, first)


def _figures(scores: Dict[str, Score]) -> Dict[str, Dict]:
    return {name: score.figures() for name, score in scores.items()}


def _report(name: str, score: Score, unit: str) -> None:
    print(
        f"{name}: {score.bits_per_byte:.4f} bits per byte ({score.bytes:,} bytes), {score.dynamic}, {score.seconds:.1f} s"
    )
    if unit != "bytes":
        print(f"  {score.bits_per_token:.4f} bits per token ({score.tokens:,} tokens, {score.unknown:,} of them <unk>)")


def _read(path: str) -> bytes:
    try:
        if path == "-":
            stdin: BinaryIO = sys.stdin.buffer
            return stdin.read()
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
