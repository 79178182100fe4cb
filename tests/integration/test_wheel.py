"""The package as a wheel: built from a copy of the source, installed into an empty environment, and used to train."""

import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from fairseq_sharnn import load
from tests.conftest import MICRO, RECIPE, ROOT, run_command

SOURCE = ("LICENSE", "README.md", "pyproject.toml", "setup.py")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """`pip wheel` of the source as it is committed, without what was compiled in place."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCE:
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "fairseq_sharnn", source / "fairseq_sharnn", ignore=ignored)
    (source / "experiments").mkdir()
    (source / "experiments" / "__init__.py").touch()
    out = tmp_path_factory.mktemp("wheel")
    finished = run_command(*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", out, source, timeout=600)
    assert finished.code == 0, finished.output[-3000:]
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An empty environment with the wheel; torch and fairseq are those of this one. Returns its folder for programs."""
    folder = tmp_path_factory.mktemp("environment")
    run_command(sys.executable, "-m", "venv", "--without-pip", folder)
    programs = folder / "bin"
    finished = run_command(*PIP, f"--python={programs / 'python'}", "install", "--no-deps", "--no-index", wheel)
    assert finished.code == 0, finished.output[-3000:]
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "borrowed.pth").write_text(f"{Path(torch.__file__).parent.parent}\n")
    return programs


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"fairseq_sharnn"}
    assert {"fairseq_sharnn/py.typed", "fairseq_sharnn/ops/csrc/lstm.cpp"} <= set(names)
    shipped = {
        f"fairseq_sharnn/portable/weights/books/{name}" for name in ("config.json", "model.safetensors", "README.md")
    }
    assert shipped <= set(names)
    if shutil.which("c++") or shutil.which("g++"):
        kernels = [name for name in names if name.endswith(".so")]
        assert kernels and all(name.startswith("fairseq_sharnn/ops/cpu_torch_") for name in kernels)


def test_a_build_in_isolation_has_the_torch_of_the_installed_package():
    """So that the kernels of `python -m build` fit the torch that pip installs with the wheel."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    build = re.search(r"\[build-system\].*?requires = \[(.*?)\]", text, re.S)[1]
    needed = re.search(r"\ndependencies = \[(.*?)\]", text, re.S)[1]
    fairseq = re.search(r"\nfairseq = \[(.*?)\n\]", text, re.S)[1]
    torch_of = set(re.findall(r'"(torch[^"]*)"', build))
    assert len(torch_of) == 2 and all(bound in needed or bound in fairseq for bound in torch_of), torch_of


def test_an_installed_wheel_has_a_model(environment, tmp_path):
    """The same bits per byte as here (the card's, tests/integration/test_shipped_model.py), a minute after installation."""
    found = run_command(environment / "sharnn", "score", ROOT / "LICENSE", "--lanes", 1, "--json", cwd=tmp_path)
    assert found.code == 0, found.output[-2000:]
    scored = json.loads(found.output[found.output.index("{") :])
    assert environment.parent in Path(scored["model"]).parents, "the source is not what runs"
    here = load().score((ROOT / "LICENSE").read_bytes(), lanes=1).bits_per_byte
    assert scored["all"]["bits_per_byte"] == pytest.approx(here, abs=1e-3)


def test_an_installed_wheel_trains(environment, corpus, tmp_path):
    def run(*command):
        finished = run_command(environment / "python", *command, cwd=tmp_path)
        assert finished.code == 0, finished.output[-3000:]
        return finished

    user_dir = run("-m", "fairseq_sharnn", "user-dir").output.splitlines()[-1]
    assert environment.parent in Path(user_dir).parents, "the source is not what runs"
    assert run(environment / "sharnn", "user-dir").output.splitlines()[-1] == user_dir
    finished = run(
        *(Path(sys.executable).with_name("fairseq-train"), corpus, "--user-dir", user_dir, "--task", "byte_level_lm"),
        *(*MICRO, *RECIPE, "--tokens-per-sample", 32, "--batch-size", 4, "--cpu", "--max-update", 2),
        *("--log-format", "simple", "--num-workers", 0),
    )
    assert "num_updates 2" in finished.output and (tmp_path / "checkpoints" / "checkpoint_last.pt").exists()
    if any(Path(user_dir).glob("ops/*.so")) and "AVX" in torch.backends.cpu.get_cpu_capability():
        assert "in use on float32" in run("-m", "fairseq_sharnn", "info").output
