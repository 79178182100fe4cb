"""Bad input ends in one clear line that names the option or path, exit code 1, and nothing on disk is changed.

The table in docs/bad-input.md is made of these very cases: `WRITE_DOCS=1 pytest tests/integration/test_bad_input.py`.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT, write_corpus
from tests.integration.bad_input import CASES
from tests.integration.bad_input.common import World
from tests.integration.option_names import unknown_options

DOCS = ROOT / "docs" / "bad-input.md"

OF_THE_TEXT = (
    *(r"(choose at (?:most|least)) \d+", r"(names) [1-9]\d*(?= words, but)", r"(has) \d+(?= <unk>)"),
    *(r"(has) \d+(?= bytes, but)", r"(says) \d+"),
)


def shown(error: str, world: World) -> str:
    """The message as the table has it: without this machine's paths, torch's own words, and numbers that depend on the
    text (Python's own documentation, which differs from version to version)."""
    error = error.replace(str(world.data), "DATA").replace(str(world.saved), "SAVED").replace("|", "\\|")
    error = error.replace(str(world.saved.parent / "new"), "NEW").replace(str(world.saved.parent / "json"), "JSON")
    error = error.replace(f"{world.data.parent}/", "")
    two = re.search(r"(?:names|has) (\d+) (?:words|bytes), but .* (?:has|says) (\d+)", error)
    assert two is None or two[1] != two[2], error
    for number in OF_THE_TEXT:
        error = re.sub(number, r"\1 N", error)
    return re.sub(r"fairseq checkpoint \(.*\); choose", "fairseq checkpoint (what torch says of it); choose", error)


def digests(*folders):
    """What every file under the folders holds."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        if folder.exists()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def world(tmp_path, trained):
    saved = tmp_path / "saved"
    shutil.copytree(trained[0], saved)
    return World(write_corpus(tmp_path / "data", 3000, 500, 500), saved)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Rows of the documented table, filled by the cases as they run; written or compared at the end."""
    rows = {}
    yield rows
    if os.environ.get("WRITE_DOCS") and len(rows) == len(CASES):
        DOCS.parent.mkdir(exist_ok=True)
        DOCS.write_text(document(rows))


def document(rows) -> str:
    lines = [
        "# Error messages for bad input",
        "",
        "Made by `WRITE_DOCS=1 pytest tests/integration/test_bad_input.py`, which feeds each of these to the real",
        "command lines and checks the message, the exit code 1, that no traceback is printed, that no file changed.",
        "",
        "| input | answer |",
        "| --- | --- |",
    ]
    lines += [f"| {case.what} | `{rows[case.what]}` |" for case in CASES]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what.replace(" ", "-"))
def test_one_clear_line_and_nothing_changed(case, world, table):
    case.spoil(world)
    before = digests(world.data, world.saved)
    finished = case.run(world)
    assert finished.code == 1, finished.output[-2000:]
    assert "Traceback" not in finished.output, finished.output[-3000:]
    errors = [line for line in finished.output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and finished.output.rstrip().endswith(errors[0]), finished.output[-2000:]
    assert re.search(case.message, errors[0]), errors[0]
    assert unknown_options(finished.program, errors[0]) == [], errors[0]
    assert digests(world.data, world.saved) == before
    table[case.what] = shown(errors[0], world)
    if not os.environ.get("WRITE_DOCS"):
        row = f"| {case.what} | `{table[case.what]}` |"
        assert row in DOCS.read_text().splitlines(), f"docs/bad-input.md lacks: {row}"


@pytest.mark.parametrize("script", sorted(ROOT.glob("scripts/*.py")), ids=lambda path: path.stem)
def test_a_script_outside_of_its_environment_says_so_in_one_line(script):
    bare = [sys.executable, "-S", str(script), "--help"]  # -S: without the packages of this environment
    ended = subprocess.run(bare, capture_output=True, text=True, timeout=60, env={"PATH": os.environ["PATH"]})
    assert ended.returncode == 1 and ended.stdout == ""
    missing = r"cannot import (experiments|fairseq_sharnn|torch)"
    assert re.fullmatch(rf"error: \S+ {missing}: [^\n]*source \.venv/bin/activate\)\n", ended.stderr)


def test_an_option_of_another_program_is_seen():
    """The check above can fail: an option of one program is not one of another."""
    message = "error: --vocab-size 9 is larger than --min-count 2 allows: see --save-dir. (--num-...-checkpoints)"
    assert unknown_options("prepare_text", message) == ["--save-dir"]
    assert unknown_options("tokenization_study", message) == ["--min-count", "--save-dir", "--vocab-size"]
    assert unknown_options("fairseq-train", message) == ["--min-count", "--vocab-size"]
    assert unknown_options("fairseq-train", "--no-bptt-jitter --lamb-betas --boom-dim --sizes") == ["--sizes"]
    assert unknown_options("prepare_text", "--path (evaluation), or fairseq-eval-lm's --path") == []
    assert unknown_options("fairseq-eval-lm", "--path (training), or fairseq-train's --path") == ["--path", "--path"]


def test_the_table_has_a_row_for_every_case():
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == len(CASES) + 2
