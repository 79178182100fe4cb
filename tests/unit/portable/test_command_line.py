"""The help of the command line `python -m fairseq_sharnn`."""

import re

import pytest

from fairseq_sharnn.portable.command_line import main


def help_of(capsys, monkeypatch, *command: str) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_each_command_has_a_summary_in_one_line(capsys, monkeypatch):
    """Neither the summary of the program nor that of a command is cut in the middle, on 80 columns."""
    text = help_of(capsys, monkeypatch)
    description, commands = re.search(r"\n\n(.*?)\n\npositional arguments:\n  COMMAND\n(.*?)\n\n", text, re.S).groups()
    assert "\n" not in description and description.endswith(".")
    commands = re.sub(r"(?m)^(    [\w-]+)\n +", r"\1 ", commands)  # argparse puts the summary of a long name below it
    found = [re.fullmatch(r"    ([\w-]+) +(\w.*)", line) for line in commands.splitlines()]
    assert all(found) and {"info", "user-dir", "export", "sample", "score"} <= {match[1] for match in found}
    for match in found:
        summary = f"{match[2][0].upper()}{match[2][1:]}."
        assert summary in help_of(capsys, monkeypatch, match[1]).splitlines()
