#!/usr/bin/env python3
"""Make a DATA folder of bytes, words or word pieces. Each split is decoded again and compared with its source.

    scripts/prepare_text.py bytes OUT --train FILE --valid FILE --test FILE           for --task byte_level_lm
    scripts/prepare_text.py word OUT --train FILE --valid FILE --test FILE            for --task streaming_lm
    scripts/prepare_text.py sentencepiece OUT --train FILE --valid FILE --test FILE --vocab-size 8000

Words and pieces are in fairseq's binarized format (dict.txt, train.bin, train.idx, ...). Further files say how many bytes
and words of the original text each token covers; scripts/evaluate_text.py needs them. OUT appears when all is checked.
"""

import argparse
import sys

try:
    from fairseq_sharnn.data.corpora.prepare import SPLITS, byte_progress
    from fairseq_sharnn.data.text import prepare
    from fairseq_sharnn.errors import exit_with_one_line
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} cannot import {error.name}: use the Python that fairseq_sharnn was installed with "
        "(scripts/setup.sh makes one: source .venv/bin/activate)"
    )


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
        for split in SPLITS:
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
    sources = {split: getattr(args, split) for split in SPLITS}
    if args.command == "bytes":
        manifest = prepare.prepare_bytes(args.out, sources, byte_progress)
    elif args.command == "word":
        manifest = prepare.prepare_words(args.out, sources, byte_progress, args.style, args.vocab_size, args.min_count)
        rule = manifest["settings"]
        print(f"words: style {rule['style']}" + (" with WikiText's line ends" if rule["edge"] else ""))
    else:
        manifest = prepare.prepare_pieces(
            args.out, sources, byte_progress, args.model_type, args.vocab_size, args.model
        )
    for split, counts in manifest["splits"].items():
        print(
            f"{args.out}/{split}: {counts['tokens']:,} tokens of {counts['bytes']:,} bytes and {counts['words']:,} words, "
            f"{counts['unknown']:,} unknown; decoded back and compared"
        )
    print(f"{args.out}: a vocabulary of {manifest['vocabulary']:,}")
    if "note" in manifest:
        print(f"note: {manifest['note']}")


if __name__ == "__main__":
    main()
