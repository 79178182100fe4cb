#!/usr/bin/env python3
"""Make a byte corpus: OUT/train, OUT/valid and OUT/test, raw bytes.

    scripts/prepare_corpus.py stdlib OUT                          code and documentation of this Python, split by file
    scripts/prepare_corpus.py enwik8 OUT [--source FILE_OR_URL]   the paper's benchmark, 90 M / 5 M / 5 M bytes
    scripts/prepare_corpus.py file OUT PATH...                    any files one after the other, 90 / 5 / 5 percent
    scripts/prepare_corpus.py shuffle NEW TRAIN                   pieces of a train split of long documents, shuffled

The files get their names when all three are complete. Splits that exist already are never overwritten.
"""

import argparse
import os
import sys

try:
    from fairseq_sharnn.data.corpora.enwik8 import URL, write_enwik8
    from fairseq_sharnn.data.corpora.prepare import SPLITS, write_files, write_stdlib
    from fairseq_sharnn.data.corpora.shuffle import PIECE, write_shuffled
    from fairseq_sharnn.errors import exit_with_one_line
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} cannot import {error.name}: use the Python that fairseq_sharnn was installed with "
        "(scripts/setup.sh makes one: source .venv/bin/activate)"
    )


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    stdlib = commands.add_parser("stdlib", help="code and documentation of the running Python's standard library")
    enwik8 = commands.add_parser("enwik8", help="the paper's benchmark")
    enwik8.add_argument("--source", help=f"a local zip or raw file, or a URL (default: {URL})")
    files = commands.add_parser("file", help="any files, 90/5/5")
    for command in (stdlib, enwik8, files):
        command.add_argument("out", metavar="OUT", help="folder to write train, valid and test into")
    files.add_argument("paths", metavar="PATH", nargs="+")
    shuffle = commands.add_parser(
        "shuffle", help="pieces of one file in a random order, for books and other long documents"
    )
    shuffle.add_argument("new", metavar="NEW", help="file to write")
    shuffle.add_argument("source", metavar="TRAIN", help="file to read, the train split of long documents")
    shuffle.add_argument("--piece", type=int, default=PIECE, metavar="BYTES", help=f"shortest piece (default: {PIECE})")
    shuffle.add_argument("--seed", type=int, default=1, help="seed of the order (default: 1)")
    return parser


@exit_with_one_line()
def main() -> None:
    args = parser().parse_args()
    if args.command == "shuffle":
        count = write_shuffled(args.source, args.new, args.piece, args.seed)
        print(f"{args.new}: {count:,} pieces, {os.path.getsize(args.new):,} bytes")
        return
    if args.command == "stdlib":
        write_stdlib(args.out)
    elif args.command == "enwik8":
        write_enwik8(args.out, args.source)
    else:
        write_files(args.out, args.paths)
    for split in SPLITS:
        path = os.path.join(args.out, split)
        print(f"{path}: {os.path.getsize(path):,} bytes")


if __name__ == "__main__":
    main()
