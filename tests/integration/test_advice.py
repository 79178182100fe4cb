"""Who follows the messages in the table of bad input to the letter gets a command that works (bad_input/advice.py)."""

import re
import shutil

import pytest

from tests.conftest import ROOT, write_corpus
from tests.integration.bad_input import CASES
from tests.integration.bad_input.advice import EVALUATION, STEPS, TRAINING, WITHOUT
from tests.integration.bad_input.common import World, evaluates, trains
from tests.integration.option_names import options_in

SPOIL = {case.what: case.spoil for case in CASES}
SETTINGS = [(row, *setting) for settings in (*TRAINING, EVALUATION) for row, setting in settings.items()]


def messages():
    """The documented message of each row."""
    lines = (ROOT / "docs" / "bad-input.md").read_text(encoding="utf-8").splitlines()
    return dict(re.fullmatch(r"\| (.*?) \| `(error: .*)` \|", line).groups() for line in lines if "`error: " in line)


@pytest.fixture
def world(tmp_path, trained):
    shutil.copytree(trained[0], tmp_path / "saved")
    return World(write_corpus(tmp_path / "data"), tmp_path / "saved")


def test_every_row_has_its_advice_tried():
    """A new row fails here until its advice is tried, or it is named among those that give none."""
    tried = {row for row, _, _ in SETTINGS} | {row for step in STEPS for row in step.rows}
    assert tried | WITHOUT == set(SPOIL) and not tried & WITHOUT


def test_the_advice_is_what_the_messages_say():
    told = messages()
    for row, advice, options in SETTINGS:
        assert advice in told[row], (row, told[row])
        assert row == "a schedule without its phases" or set(options_in(" ".join(map(str, options)))) <= {
            *options_in(told[row]),
            *("--lr-scheduler", "--trust-log", "--criterion", "--ddp-backend", "--tokens-per-sample"),
        }, row
    for step in STEPS:
        for row in step.rows:
            assert re.search(step.advice, told[row]), (row, told[row])
    for row in WITHOUT:
        assert row.startswith("checkpoint of") or not re.search(r"; |, or |: (use|choose|give|name) ", told[row]), told[
            row
        ]


@pytest.mark.parametrize("settings", TRAINING, ids=lambda settings: f"{len(settings)} messages")
def test_values_that_messages_ask_for_train(settings, world):
    options = [option for _, options in settings.values() for option in options]
    done = trains(*(str(option).replace("LOG", str(world.saved / "trust.jsonl")) for option in options))(world)
    assert done.code == 0, done.output[-2000:]


def test_values_that_messages_ask_for_evaluate(world):
    done = evaluates(*(option for _, options in EVALUATION.values() for option in options))(world)
    assert done.code == 0, done.output[-2000:]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.rows[0]}: {step.advice}".replace(" ", "-")[:80])
def test_who_follows_a_message_gets_a_command_that_works(step, world):
    best = world.saved / "checkpoint_best.pt"
    SPOIL[step.rows[0]](world)
    before = best.read_bytes() if best.exists() else b""
    done = step.do(world)
    assert done.code == 0 and "Traceback" not in done.output, done.output[-3000:]
    if "--reset-meters" in step.advice:
        assert best.read_bytes() != before, "the best checkpoint is still one of the old corpus"
