"""A report of one page: title, machine, command, text. For programs that print it and can also write it."""

import sys
from pathlib import Path
from typing import List, Optional, Sequence

from benchmarks import machine
from experiments.harness.folder import write_text


def show(
    title: str, module: str, arguments: Optional[List[str]], threads: int, body: Sequence[str], out: Optional[str]
) -> None:
    """Print the report of `python -m benchmarks.MODULE`, and write it to the file `out` unless that is None.

    arguments: those of the program, None for the command line's. threads: of torch, for the line about the machine.
    """
    command = " ".join(["python -m", f"benchmarks.{module}", *(sys.argv[1:] if arguments is None else arguments)])
    text = "\n".join(
        [f"# {title}", "", machine.line(machine.describe("cpu", threads)), "", f"    {command}", "", *body]
    )
    print(text)
    if out:
        write_text(Path(out), text)
