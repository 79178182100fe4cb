"""scripts/setup.sh on machines that lack something: one line, nothing made."""

import os
import subprocess

import pytest

from tests.conftest import ROOT

TOOLS = ("bash", "cat", "cksum", "chmod", "cut", "dirname", "env", "grep", "tail", "wc", "ls", "mkdir", "rm")


@pytest.fixture
def machine(tmp_path):
    """A copy of the repository's set-up and a PATH with the basic tools alone; `add` puts a fake program on it."""
    source = "fairseq_sharnn/ops/csrc"
    (tmp_path / "repo" / "scripts").mkdir(parents=True)
    (tmp_path / "repo" / source).mkdir(parents=True)
    kernels = [f"{source}/{path.name}" for path in (ROOT / source).iterdir()]
    for name in ("scripts/setup.sh", "requirements.txt", "setup.py", *kernels):
        (tmp_path / "repo" / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = subprocess.run(["which", tool], capture_output=True, text=True, check=True).stdout.strip()
        (tmp_path / "bin" / tool).symlink_to(os.path.realpath(found))

    class Machine:
        folder = tmp_path / "repo"

        def add(self, name, script):
            path = tmp_path / "bin" / name
            path.write_text(f"#!/bin/bash\n{script}\n")
            path.chmod(0o755)

        def setup(self, **environment):
            return subprocess.run(
                ["bash", "scripts/setup.sh"],
                cwd=self.folder,
                env={"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path), **environment},
                capture_output=True,
                text=True,
                check=False,
            )

    return Machine()


def python(version):
    """A fake interpreter: tells its version, has no headers to compile with, and fails at anything else."""
    return f"""case "$*" in
*version_info*) echo {version} ;;
*--version*) echo Python {version} ;;
*get_path*) echo /nowhere ;;
*) exit 1 ;;
esac"""


@pytest.mark.parametrize(
    "programs, message",
    [
        ({}, "no Python 3.11 or 3.12 or 3.10 or 3.9 or 3.8 found (python3 is missing)"),
        ({"python3": python("3.7")}, "found (python3 is Python 3.7)"),
        ({"python3": python("3.13")}, "found (python3 is Python 3.13)"),
        ({"python3.11": python("3.11")}, "there is no C++ compiler: apt-get install g++"),
        ({"python3.11": python("3.11"), "g++": "true"}, "/nowhere/Python.h is missing: apt-get install python3.11-dev"),
        ({"python3.12": python("3.12"), "python3.11": python("3.11")}, "python3.12 -m venv failed: apt-get install"),
    ],
)
def test_what_is_missing_is_said_in_one_line(machine, programs, message):
    for name, script in programs.items():
        machine.add(name, script)
    done = machine.setup()
    assert done.returncode == 1 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert (
        len(lines) == 1
        and lines[0].startswith("setup: ")
        and message.replace(" or 3.12", "", 0) in _any_order(lines[0])
    )
    assert not (machine.folder / ".venv" / ".ready").exists()


def _any_order(line):
    """Without a compiler Python 3.12, which needs none, comes first."""
    return line.replace("3.12 or 3.11 or 3.10", "3.11 or 3.12 or 3.10")


def test_a_named_interpreter_of_another_version_is_refused(machine):
    machine.add("old", python("3.6"))
    done = machine.setup(PYTHON="old")
    assert done.returncode == 1 and "old is Python 3.6; needed is one of" in done.stderr


def test_no_network_is_said_in_one_line(machine):
    """The interpreter makes a venv whose pip reaches nothing."""
    pip = "echo No matching distribution found for pip; exit 1"
    lines = ("#!/bin/bash", pip)
    write = "".join(f'echo "{line}" >>.venv/bin/python; ' for line in lines)
    make = f"*venv*) mkdir -p .venv/bin; {write} chmod +x .venv/bin/python ;;"
    machine.add("python3.12", python("3.12").replace("*) exit 1 ;;", f"{make}\n*) exit 1 ;;"))
    done = machine.setup()
    assert done.returncode == 1
    assert "the package index was not reached" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_second_run_starts_at_once(machine):
    machine.add("python3", "echo an interpreter was started >&2; exit 1")
    stamp = subprocess.run(
        "cat requirements.txt setup.py scripts/setup.sh fairseq_sharnn/ops/csrc/* | cksum | cut -d' ' -f1",
        shell=True,
        cwd=machine.folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (machine.folder / ".venv" / "bin").mkdir(parents=True)
    (machine.folder / ".venv" / "bin" / "python").write_text("#!/bin/bash\n")
    (machine.folder / ".venv" / "bin" / "python").chmod(0o755)
    (machine.folder / ".venv" / ".ready").write_text(f" {stamp}\n")
    done = machine.setup()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
