"""Trained SHA-RNN models at the command line, with fairseq and without."""

import argparse
import os
import sys
from typing import List, Optional

from fairseq_sharnn.errors import exit_with_one_line
from fairseq_sharnn.portable.shipped import SHIPPED

MODEL = "a checkpoint, or a folder that `export` made (default: the model of books in the package)"


@exit_with_one_line()
def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; returns the exit code. An error that the user can put right is one line on stderr and code 1."""
    options = make_parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except BrokenPipeError:  # the reader of a pipe has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m fairseq_sharnn", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    found = _command(commands, "info", "versions and devices, and how to mend what is broken")
    found.set_defaults(run=_info)
    folder = _command(commands, "user-dir", "print the folder for fairseq's --user-dir")
    folder.set_defaults(run=_user_dir)
    _add_export(commands)
    _add_sample(commands)
    _add_score(commands)
    _add_compress(commands)
    _add_decompress(commands)
    return parser


def _command(commands, name: str, summary: str) -> argparse.ArgumentParser:
    """The parser of a command. Its summary fits a line of `--help` on 80 columns."""
    return commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")


def _add_export(commands) -> None:
    export = _command(commands, "export", "write a checkpoint as a folder that needs no fairseq")
    export.add_argument("checkpoint", metavar="CHECKPOINT", help="a fairseq checkpoint of sha_rnn")
    export.add_argument("out", metavar="OUT", help="the folder to make; it must not exist")
    export.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32", help="of the weights")
    export.add_argument("--trainable", action="store_true", help="keep the networks of the over-parameterised vectors")
    export.add_argument("--onnx", action="store_true", help="write the step and the chunk as ONNX graphs too")
    export.add_argument(
        "--int8", action="store_true", help="write ONNX graphs with weights of 8 bits too; implies --onnx"
    )
    export.add_argument(
        "--text", metavar="FILE", help="compare the graphs with torch on this text (default: model draws)"
    )
    _add_data(export)
    export.set_defaults(run=_export)


def _add_sample(commands) -> None:
    sample = _command(commands, "sample", "continue prompts")
    _add_model(sample)
    prompts = sample.add_mutually_exclusive_group()
    prompts.add_argument("--prompt", metavar="TEXT", default="", help="the text to continue (default: none)")
    prompts.add_argument("--prompts", metavar="FILE", help="a file with one prompt a line (- for stdin)")
    sample.add_argument("--length", type=int, default=256, help="bytes (words and pieces: tokens) to draw")
    sample.add_argument("--temperature", type=float, default=1.0, help="0 takes the likeliest each time")
    sample.add_argument("--top-k", type=int, default=0, help="draw from the k likeliest only (0: from all)")
    sample.add_argument("--top-p", type=float, default=1.0, help="draw from the fewest whose probability reaches p")
    sample.add_argument("--seed", type=int, help="makes the draw repeatable; sample number n uses seed + n - 1")
    sample.add_argument("--count", type=int, default=1, help="samples of each prompt")
    sample.set_defaults(run=_sample)


def _add_score(commands) -> None:
    score = _command(commands, "score", "bits per byte of files, each byte once")
    score.add_argument("files", metavar="FILE", nargs="+", help="any files")
    _add_model(score)
    score.add_argument("--lanes", type=int, help="stretches that are read together (default: 8)")
    score.add_argument("--chunk", type=int, help="bytes (tokens) read at a time (default: that of training)")
    score.add_argument("--context-window", type=int, default=0, help="bytes that a lane reads before its stretch")
    score.add_argument("--json", action="store_true", help="print the figures as JSON")
    add_dynamic(score)
    score.set_defaults(run=_score)


def _add_compress(commands) -> None:
    compress = _command(commands, "compress", "write a file as the bits that a model needs for it")
    compress.add_argument("file", metavar="FILE", help="any file (- for stdin)")
    compress.add_argument("out", metavar="OUT", help="the compressed file to write; it must not exist")
    compress.add_argument("--model", default=SHIPPED, metavar="MODEL", help=MODEL)
    compress.add_argument("--lanes", type=int, default=8, help="stretches that are read together (default: 8)")
    compress.add_argument("--threads", type=int, default=1, help="of torch; decompress uses as many (default: 1)")
    add_dynamic(compress)
    compress.add_argument(
        "--chunk",
        type=int,
        help="with --dynamic-lr: bytes (tokens) of a lane between steps (default: that of training)",
    )
    _add_data(compress)
    compress.set_defaults(run=_compress)


def _add_decompress(commands) -> None:
    decompress = _command(commands, "decompress", "the file that compress read, with the same model")
    decompress.add_argument("out", metavar="OUT", help="what compress wrote (- for stdin)")
    decompress.add_argument("file", metavar="FILE", help="the file to write; it must not exist")
    decompress.add_argument("--model", default=SHIPPED, metavar="MODEL", help=MODEL)
    decompress.add_argument(
        "--max-bytes", type=int, default=1 << 30, help="refuse a file that says it holds more (default: 1 GiB)"
    )
    _add_data(decompress)
    decompress.set_defaults(run=_decompress)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=SHIPPED, metavar="MODEL", help=MODEL)
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: cpu)")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], help="of the computation")
    parser.add_argument(
        "--weights",
        default="float32",
        help="float32, or bfloat16 or int8: steps on CPU read fewer bytes (default: float32)",
    )
    _add_data(parser)


def add_dynamic(parser: argparse.ArgumentParser) -> None:
    """The options of dynamic evaluation; `evaluation.dynamic.settings_of` reads them."""
    parser.add_argument(
        "--dynamic-lr", type=float, default=0.0, help="learn from each chunk after it is scored (0: off)"
    )
    parser.add_argument("--dynamic-optimizer", default="adam", help="adam, rms (as published) or sgd (default: adam)")
    parser.add_argument(
        "--dynamic-decay", type=float, default=0.0, help="towards the trained weights, a step (default: 0)"
    )
    parser.add_argument("--dynamic-clip", type=float, default=0.25, help="largest norm of a gradient (0: any)")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", metavar="DATA", help="DATA folder of a checkpoint of words or pieces, if it has moved"
    )


# What the commands run is imported when it is needed: `user-dir` and `info` do not wait for torch.


def _info(options: argparse.Namespace) -> int:
    from fairseq_sharnn.portable.info import info_lines

    broken = False
    for line in info_lines():
        print(f"{line.name:<15} {line.text}")
        if line.mend is not None:
            broken = True
            print(f"{'':<15} mend it with: {line.mend}")
    return 1 if broken else 0


def _user_dir(options: argparse.Namespace) -> None:
    from fairseq_sharnn.portable.info import package_folder

    print(package_folder())


def _export(options: argparse.Namespace) -> None:
    from fairseq_sharnn.portable.commands import run_export

    run_export(options)


def _sample(options: argparse.Namespace) -> None:
    from fairseq_sharnn.portable.commands import run_sample

    run_sample(options)


def _score(options: argparse.Namespace) -> None:
    from fairseq_sharnn.portable.commands import run_score

    run_score(options)


def _compress(options: argparse.Namespace) -> None:
    from fairseq_sharnn.portable.compressor.commands import run_compress

    run_compress(options)


def _decompress(options: argparse.Namespace) -> None:
    from fairseq_sharnn.portable.compressor.commands import run_decompress

    run_decompress(options)
