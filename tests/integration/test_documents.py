"""The documentation keeps its limits: length of README, links and paths that exist, options that exist, current tables."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from fairseq import options

from fairseq_sharnn.registration import register
from tests.conftest import ROOT, USER_DIR, run_command
from tests.integration import documents
from tests.integration.forked import run_script

README = ROOT / "README.md"
NAMES = {str(page.relative_to(ROOT)): page for page in documents.pages()}
# Folders that the commands of the pages make.
MADE = ("data", "checkpoints", "results", "work", ".venv")
# Programs of the system, of shells, and of others.
ELSEWHERE = ("head", "tail", "mkdir", "curl", "unzip", "echo", "pip", "source", "python", "git", "torchrun", "xz")


def test_readme_is_short():
    lines = README.read_text().splitlines()
    assert len(lines) <= 130
    assert len(README.read_text().split()) <= 1200
    fenced = set("".join(documents.blocks(README, r"\w+")).splitlines())
    long = [line for line in lines if len(line) > 120 and not line.startswith("|") and line not in fenced]
    assert not long


def test_readme_says_first_what_was_not_measured_and_how_to_begin():
    text = README.read_text()
    assert "not run on a gpu" in " ".join(text.splitlines()[:12]).lower().replace("*", "")
    for needed in ("scripts/quickstart.sh", "scripts/test.sh", "reference.py"):
        assert needed in text


@pytest.mark.parametrize("name", NAMES)
def test_links_are_alive(name):
    page = NAMES[name]
    for target in documents.links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name} links to {target}, which does not exist"
        assert not anchor or anchor in documents.anchors(file), f"{name} links to {target}, which has no such heading"


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"CHANGELOG.md"}))
def test_paths_exist(name):
    for word in documents.paths(NAMES[name]):
        word = word.rstrip(".,:;")
        if word.split("/")[0] in MADE:
            continue
        folders, names = (ROOT, ROOT / "fairseq_sharnn"), (word, f"{word}.*")  # some commands add the ending
        found = [file for folder in folders for end in names for file in folder.glob(end)]
        assert found, f"{name} names {word}, which does not exist"


def test_ci_runs_the_supported_versions():
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    versions = re.findall(r'python: "([\d.]+)"', workflow)
    supported = (
        documents.prose(ROOT / "docs" / "guarantees.md").partition("## Supported versions")[2].partition("\n## ")[0]
    )
    first_cells = re.findall(r"^\| ([\d., ]+) \|", supported, flags=re.MULTILINE)
    assert versions and sorted(versions) == sorted(", ".join(first_cells).split(", "))


def test_the_options_page_is_current():
    path = ROOT / "docs" / "write_options.py"
    spec = importlib.util.spec_from_file_location("write_options", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.PAGE.read_text()
    assert module.page(text) == text, "run: python docs/write_options.py"


def test_the_diagrams_are_drawn(tmp_path):
    drawn = run_command(sys.executable, ROOT / "docs" / "images" / "draw.py", tmp_path)
    assert drawn.code == 0, drawn.output
    for name in ("block.svg", "walk.svg"):
        assert (tmp_path / name).read_text().count("<path") > 20
        assert (ROOT / "docs" / "images" / name).exists()


@pytest.mark.parametrize("name", [name for name, page in NAMES.items() if documents.commands(page)])
def test_commands_exist_and_know_their_options(name):
    for words in documents.expanded(NAMES[name]):
        while "=" in words[0] and len(words) > 1:
            words = words[1:]
        tool, rest = words[0], words[1:]
        if tool.startswith("scripts/") and tool.endswith(".py"):
            script_knows(Path(tool).stem, rest)
        elif tool.startswith("fairseq-") and "..." not in rest:
            fairseq_knows(tool, rest)
        elif tool == "python" and rest[0] == "-m":
            assert importlib.util.find_spec(rest[1]), f"{name}: there is no module {rest[1]}"
        else:
            known = tool.split("/")[0] in MADE or tool in ELSEWHERE or "=" in tool or (ROOT / tool).exists()
            assert known, f"{name}: what is {tool}?"


def script_knows(script, words):
    assert (ROOT / "scripts" / f"{script}.py").exists(), script
    given = {word.split("=")[0] for word in words if word.startswith("--")}
    if not given or script.startswith("prepare"):  # those are run by test_readme.py and test_examples.py
        return
    if script == "tokenization_study":  # test_tokenization_study.py runs it; a start takes long
        sources = [ROOT / "scripts" / f"{script}.py", *(ROOT / "experiments").rglob("*.py")]
        assert all(any(f'"{option}"' in path.read_text() for path in sources) for option in given), given
        return
    helped = run_script(script, "--help")
    assert helped.code == 0 and all(option in helped.output for option in given), (script, given, helped.output)


def fairseq_knows(tool, words):
    if tool == "fairseq-hydra-train":
        folder, config = (words[words.index(option) + 1] for option in ("--config-dir", "--config-name"))
        assert (ROOT / folder / f"{config}.yaml").exists()
        return
    register()
    parsers = {
        "fairseq-train": options.get_training_parser,
        "fairseq-eval-lm": options.get_eval_lm_parser,
        "fairseq-validate": options.get_validation_parser,
    }
    words = [USER_DIR if word == "fairseq_sharnn" else word for word in words]
    options.parse_args_and_arch(parsers[tool](), input_args=words)
