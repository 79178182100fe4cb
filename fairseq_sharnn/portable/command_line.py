"""The command line `python -m fairseq_sharnn`: info, user-dir, export, sample, score."""

import argparse
import os
import sys
from typing import List, Optional

from fairseq_sharnn.portable import info


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; returns the exit code. An error that the user can put right is one line on stderr and code 1."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except BrokenPipeError:  # the reader of a pipe has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fairseq_sharnn", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    found = commands.add_parser("info", help="versions, fairseq, kernels, devices; what is broken and how to mend it")
    found.set_defaults(run=_info)
    folder = commands.add_parser("user-dir", help="print the folder for fairseq's --user-dir")
    folder.set_defaults(run=_user_dir)
    return parser


def _info(options: argparse.Namespace) -> int:
    broken = False
    for line in info.info_lines():
        print(f"{line.name:<15} {line.text}")
        if line.mend is not None:
            broken = True
            print(f"{'':<15} mend it with: {line.mend}")
    return 1 if broken else 0


def _user_dir(options: argparse.Namespace) -> None:
    print(info.package_folder())
