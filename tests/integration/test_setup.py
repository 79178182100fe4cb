"""scripts/setup.sh on machines that lack something: one line, nothing made."""

import os
import re
import shlex
import subprocess

import pytest

from tests.conftest import ROOT

TOOLS = "bash cat cksum chmod cut dirname env grep ls mkdir rm sleep tail wc".split()
STAMPED = ("requirements.txt", "pyproject.toml", "setup.py", "scripts/setup.sh")


def of_machine(kind):
    """A fake `uname` of a kind of machine."""
    return f"echo {kind}"


@pytest.fixture
def machine(tmp_path):
    """A copy of the repository's set-up and a PATH with the basic tools only; `add` puts a fake program on it."""
    source = "fairseq_sharnn/ops/csrc"
    (tmp_path / "repo" / "scripts").mkdir(parents=True)
    (tmp_path / "repo" / source).mkdir(parents=True)
    kernels = [f"{source}/{path.name}" for path in (ROOT / source).iterdir()]
    for name in (*STAMPED, *kernels):
        (tmp_path / "repo" / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = subprocess.run(["which", tool], capture_output=True, text=True, check=True).stdout.strip()
        (tmp_path / "bin" / tool).symlink_to(os.path.realpath(found))

    class Machine:
        folder = tmp_path / "repo"

        def add(self, name, script):
            path = tmp_path / "bin" / name
            path.unlink(missing_ok=True)  # a basic tool is a link to the machine's own
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

    made = Machine()
    made.add("uname", of_machine("Linux x86_64"))
    return made


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
        ({}, "no Python 3.11 or 3.12 or 3.13 or 3.10 or 3.9 or 3.8 found (python3 is missing)"),
        ({"python3": python("3.7")}, "found (python3 is Python 3.7)"),
        ({"python3": python("3.14")}, "found (python3 is Python 3.14)"),
        ({"python3.10": python("3.10")}, "on Python 3.10 and there is no C++ compiler: apt-get install g++"),
        ({"python3.13": python("3.13"), "python3.9": python("3.9")}, "on Python 3.13 and there is no C++ compiler"),
        ({"python3.13": python("3.13"), "g++": "true"}, "/nowhere/Python.h is missing: apt-get install python3.13-dev"),
        ({"python3.11": python("3.11"), "uname": of_machine("Linux aarch64")}, "there is no C++ compiler"),
        ({"python3.12": python("3.12"), "python3.11": python("3.11")}, "python3.11 -m venv failed: apt-get install"),
        ({"python3.12": python("3.12"), "python3.13": python("3.13")}, "python3.12 -m venv failed: apt-get install"),
    ],
)
def test_what_is_missing_is_said_in_one_line(machine, programs, message):
    for name, script in programs.items():
        machine.add(name, script)
    done = machine.setup()
    assert done.returncode == 1 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("setup: ") and message in lines[0]
    assert not (machine.folder / ".venv" / ".ready").exists()


def test_a_named_interpreter_of_another_version_is_refused(machine):
    machine.add("old", python("3.6"))
    done = machine.setup(PYTHON="old")
    assert done.returncode == 1 and "old is Python 3.6; needed is one of" in done.stderr


def with_venv(version, *lines):
    """A fake interpreter that makes a venv, whose own interpreter is these lines of bash."""
    write = "".join(f"echo {shlex.quote(line)} >>.venv/bin/python; " for line in ("#!/bin/bash", *lines))
    make = f"*venv*) mkdir -p .venv/bin; {write} chmod +x .venv/bin/python ;;"
    return python(version).replace("*) exit 1 ;;", f"{make}\n*) exit 1 ;;")


def test_no_network_is_said_in_one_line(machine):
    """The pip of the venv reaches nothing."""
    machine.add("python3.12", with_venv("3.12", "echo No matching distribution found for pip; exit 1"))
    done = machine.setup()
    assert done.returncode == 1
    assert "the package index was not reached" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "version, kind, build, isolated",
    [
        ("3.12", "Linux x86_64", "--no-deps --only-binary :all: ve-fairseq==0.12.3", False),
        ("3.12", "Linux aarch64", "--no-deps --no-build-isolation fairseq-fixed==0.12.3.1", False),
        ("3.13", "Linux x86_64", "--no-deps --no-build-isolation fairseq-fixed==0.12.3.1", False),
        ("3.10", "Linux x86_64", "-c requirements.txt fairseq==0.12.2", True),
    ],
)
def test_each_python_gets_the_fairseq_that_suits_it(machine, version, kind, build, isolated):
    """All that the venv's interpreter is asked to do, and a line with seconds for each step."""
    headers = machine.folder / "Python.h"
    headers.touch()
    fake = with_venv(version, 'echo "$*" >>asked').replace("echo /nowhere", f"echo {machine.folder}")
    for name, script in {f"python{version}": fake, "g++": "true", "uname": of_machine(kind)}.items():
        machine.add(name, script)
    done = machine.setup()
    assert (done.returncode, done.stderr) == (0, "")
    asked = (machine.folder / "asked").read_text().splitlines()
    pip = "-m pip install --disable-pip-version-check "
    assert pip + build in asked
    assert pip + "-r requirements.txt" in asked and pip + "--no-build-isolation --no-deps -e ." in asked
    assert ("--no-build-isolation" not in asked[asked.index(pip + build)]) is (isolated or "--only-binary" in build)
    ends = re.findall(r"^setup: (\d) of 5: .*: done in \d+ s$", done.stdout, flags=re.MULTILINE)
    assert ends == ["1", "2", "3", "4", "5"]


def test_a_long_step_is_not_silent(machine):
    """A step of half a minute of a shell whose seconds are short."""
    machine.add("sleep", "exec /bin/sleep 0.01")
    machine.add("python3.12", with_venv("3.12", r'case "$*" in *pip\>=23) /bin/sleep 1 ;; esac'))
    done = machine.setup()
    assert done.returncode == 0
    assert "setup: 1 of 5: pip ... 15 s" in done.stdout and "setup: 1 of 5: pip ... 30 s" in done.stdout


def test_versions_of_fairseq_are_those_of_the_package(machine):
    named = r"((?:ve-fairseq|fairseq-fixed|fairseq)==[\d.]+)"
    assert set(re.findall(named, (ROOT / "scripts" / "setup.sh").read_text())) == set(
        re.findall(named, (ROOT / "pyproject.toml").read_text())
    )


def test_a_second_run_starts_at_once(machine):
    machine.add("python3", "echo an interpreter was started >&2; exit 1")
    stamp = subprocess.run(
        f"cat {' '.join(STAMPED)} fairseq_sharnn/ops/csrc/* | cksum | cut -d' ' -f1",
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
