"""The rules of the house, read from the source: sizes of files, and which room may import which."""

import ast
import subprocess
from pathlib import Path
from typing import Iterator, Tuple

import pytest

from tests.conftest import ROOT

FILE_LINES, FUNCTION_LINES, SCRIPTS_LINES = 320, 60, 1200
TORCH_ONLY = ["modules", "ops", "optim/lamb.py", "evaluation/dynamic.py", "reference.py", "errors.py", "files.py"]


def sources(*folders: str) -> Iterator[Path]:
    """The repository's Python files below the folders (or the files themselves), as far as git knows them."""
    command = ["git", "ls-files", "-z", "--", *(folders or ["."])]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name.endswith(".py")]
    else:  # an unpacked archive has no .git
        paths = [path for folder in folders or ROOT.iterdir() for path in _below(ROOT / folder)]
    found = sorted({path for path in paths if path.exists()})
    assert found, f"no Python file below {folders}"
    return iter(found)


def _below(path: Path) -> Iterator[Path]:
    if path.is_dir() and not path.name.startswith("."):
        return path.rglob("*.py")
    return iter([path] if path.suffix == ".py" else [])


def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def where(path: Path, node: ast.AST) -> str:
    """FILE:LINE, as messages name a place."""
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def imports(path: Path, at_start_only: bool = False) -> Iterator[Tuple[str, str]]:
    """(dotted name, FILE:LINE) of all that a file imports; at_start_only: without what functions import when called."""
    waiting = list(tree_of(path).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, where(path, node)) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{where(path, node)}: a relative import"
            yield node.module, where(path, node)
            yield from ((f"{node.module}.{alias.name}", where(path, node)) for alias in node.names)
        elif not (at_start_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
            waiting.extend(child for child in ast.iter_child_nodes(node))


def imported_from(name: str, package: str) -> bool:
    """Whether a dotted name is the package or in it."""
    return name == package or name.startswith(package + ".")


def file_of(name: str) -> Path:
    """The file of a module of this repository; a path that does not exist for other names."""
    path = ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def test_sizes():
    """A file or a function that is longer holds more than one idea: split it."""
    long = []
    for path in sources():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > FILE_LINES:
            long.append(f"{path.relative_to(ROOT)} has {lines} lines")
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES:
                    long.append(f"{where(path, node)}: {node.name} has {lines} lines")
    assert not long, "\n".join(long)


def test_scripts_are_commands_only():
    lines = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "scripts").iterdir() if path.is_file()}
    assert sum(lines.values()) < SCRIPTS_LINES, lines


def test_nothing_edits_the_search_path():
    """What scripts and tests import is installed, so scripts start from any folder."""
    for path in sources():
        for node in ast.walk(tree_of(path)):
            owner = getattr(node, "value", None) if isinstance(node, ast.Attribute) else None
            used = isinstance(owner, ast.Name) and (owner.id, node.attr) == ("sys", "path")
            assert not used, f"{where(path, node)} uses sys.path"


def test_modules_hold_formulas_only():
    """No kernel, no autograd.Function: those are in ops/."""
    for path in sources("fairseq_sharnn/modules"):
        for name, place in imports(path):
            kernels = imported_from(name, "fairseq_sharnn.ops.kernels") or imported_from(name, "torch.autograd")
            assert not kernels, f"{place} imports {name}"
            assert not name.endswith(("_plain", "_fused")), f"{place} chooses between plain and fused: {name}"
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                bases = [ast.dump(base) for base in node.bases]
                assert not any("'Function'" in base for base in bases), f"{where(path, node)}: {node.name}"


@pytest.mark.parametrize("part", TORCH_ONLY)
def test_needs_torch_only(part):
    """No file that these import, directly or through others, imports fairseq when it is imported."""
    waiting, seen = list(sources(f"fairseq_sharnn/{part}")), set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name, place in imports(path, at_start_only=True):
            assert not imported_from(name, "fairseq"), f"{place} imports {name}"
            waiting.extend(
                found for found in [file_of(name)] if found.exists() and imported_from(name, "fairseq_sharnn")
            )
    for path in sources(f"fairseq_sharnn/{part}"):  # nor later
        for name, place in imports(path):
            assert not imported_from(name, "fairseq"), f"{place} imports {name}"


@pytest.mark.parametrize(
    ("folder", "never"),
    [
        ("benchmarks", ["tests"]),
        ("experiments", ["tests", "benchmarks"]),
        ("scripts", ["tests"]),
        ("fairseq_sharnn", ["tests", "benchmarks", "experiments", "scripts"]),
        ("fairseq_sharnn/data", ["fairseq_sharnn.models", "fairseq_sharnn.tasks"]),
        ("fairseq_sharnn/ops", ["fairseq_sharnn.modules", "fairseq_sharnn.models"]),
        ("fairseq_sharnn/modules", ["fairseq_sharnn.models", "fairseq_sharnn.data", "fairseq_sharnn.reference"]),
        ("fairseq_sharnn/reference.py", ["fairseq_sharnn"]),
    ],
)
def test_rooms_import_downwards(folder, never):
    for path in sources(folder):
        for name, place in imports(path):
            for package in never:
                assert not imported_from(name, package), f"{place} imports {name}"
