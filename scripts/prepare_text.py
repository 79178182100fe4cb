#!/usr/bin/env python3
"""Make a DATA folder of bytes, words or word pieces; each is decoded back and compared with its source.

    scripts/prepare_text.py bytes OUT --train FILE --valid FILE --test FILE           for --task byte_level_lm
    scripts/prepare_text.py word OUT --train FILE --valid FILE --test FILE            for --task streaming_lm
    scripts/prepare_text.py sentencepiece OUT --train FILE --valid FILE --test FILE --vocab-size 8000

Words and pieces are in fairseq's binarized format (dict.txt, train.bin, train.idx, ...), with the bytes and words of
the original text that each token covers beside them, for scripts/evaluate_text.py. OUT appears when all is checked.
"""

import argparse
import sys
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fairseq_sharnn.errors import exit_with_one_line

with exit_with_one_line():
    from tqdm import tqdm

    from fairseq_sharnn.data.text import prepare


@contextmanager
def progress(total: int, what: str):
    """A bar over bytes."""
    with tqdm(total=total, desc=what, unit="B", unit_scale=True, mininterval=0.5) as bar:
        yield bar.update


def at_least_one(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return int(text)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    raw = commands.add_parser("bytes", help="any files, as they are")
    words = commands.add_parser("word", help="UTF-8 text as words, by sacremoses")
    pieces = commands.add_parser("sentencepiece", help="UTF-8 text as pieces of a sentencepiece model")
    for command in (raw, words, pieces):
        command.add_argument("out", metavar="OUT", help="folder to make")
        for split in prepare.SPLITS:
            command.add_argument(f"--{split}", required=True, metavar="FILE", help=f"text of the {split} split")
    words.add_argument("--vocab-size", type=at_least_one, metavar="N", help="keep the N most frequent words")
    words.add_argument(
        "--min-count",
        type=at_least_one,
        metavar="N",
        help="keep words seen N times in the training text (default: 2, and 1 where it has <unk> of its own)",
    )
    words.add_argument(
        "--style",
        choices=("auto", "moses", "spaced"),
        default="auto",
        help="moses: cut by sacremoses; spaced: cut at spaces, for text tokenized already (default: look at the text)",
    )
    pieces.add_argument(
        "--vocab-size", type=at_least_one, metavar="N", help="all pieces (default: 8000, or as many as the text allows)"
    )
    pieces.add_argument("--model-type", choices=("unigram", "bpe"), default="unigram")
    pieces.add_argument("--model", metavar="FILE", help="use this sentencepiece model instead of training one")
    return parser


@exit_with_one_line()
def main() -> None:
    args = parser().parse_args()
    sources = {split: getattr(args, split) for split in prepare.SPLITS}
    if args.command == "bytes":
        about = prepare.prepare_bytes(args.out, sources, progress)
    elif args.command == "word":
        about = prepare.prepare_words(args.out, sources, progress, args.style, args.vocab_size, args.min_count)
        rule = about["settings"]
        print(f"words: style {rule['style']}" + (" with WikiText's line ends" if rule["edge"] else ""))
    else:
        about = prepare.prepare_pieces(args.out, sources, progress, args.model_type, args.vocab_size, args.model)
    for split, counts in about["splits"].items():
        print(
            f"{args.out}/{split}: {counts['tokens']:,} tokens of {counts['bytes']:,} bytes and {counts['words']:,} words, "
            f"{counts['unknown']:,} unknown; decoded back and compared"
        )
    print(f"{args.out}: a vocabulary of {about['vocabulary']:,}")
    if "note" in about:
        print(f"note: {about['note']}")


if __name__ == "__main__":
    main()
