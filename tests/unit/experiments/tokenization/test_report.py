"""The beginning of the study's report."""

import argparse

import pytest

from experiments.harness.records import from_plain
from experiments.tokenization.plan import add_plan_options, make_plan
from experiments.tokenization.records import Manifest, StudyResult
from experiments.tokenization.report import head
from fairseq_sharnn.data.text.prepare import prepare_bytes
from tests.integration.bad_input.text import silent

NOTE = "this text does not separate words by spaces (100% of its characters are of scripts"


@pytest.mark.parametrize(
    "text, noted", [("今天天气很好\n我们去公园\n" * 20, True), ("The weather is fine.\n" * 20, False)]
)
def test_the_report_says_what_figures_per_word_are_worth(tmp_path, text, noted):
    """A reader of a text without spaces learns it from the report, as from scripts/prepare_text.py."""
    (tmp_path / "t").write_text(text, encoding="utf-8")
    splits = {split: str(tmp_path / "t") for split in ("train", "valid", "test")}
    manifest = from_plain(Manifest, prepare_bytes(str(tmp_path / "o"), splits, silent))
    parser = argparse.ArgumentParser()
    add_plan_options(parser)
    plan = make_plan(parser.parse_args([]), "t", "digest" * 4)
    lines = head(StudyResult(plan, "command", "3.11", {}, {"bytes": manifest}, {}))
    assert any(line.startswith(f"Note: {NOTE}") for line in lines) == noted
