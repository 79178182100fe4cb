"""fairseq's own options on the streaming tasks: each has a row in the table, and does what its row says."""

import dataclasses
import logging
import os
import re
from types import SimpleNamespace

import pytest
from fairseq.dataclass import configs

from fairseq_sharnn.compat import fairseq_options as table
from fairseq_sharnn.errors import UsageError
from tests.conftest import ROOT, USER_DIR
from tests.integration.forked import eval_forked, run_forked, train_forked

DOCS = ROOT / "docs" / "fairseq-options.md"
OF_TOOLS = ("generation", "interactive")  # of command lines that these tasks refuse as a whole
ALL = [(group, field, row) for group, (_, rows) in table.GROUPS.items() for field, row in rows.items()]


def test_every_option_has_a_row():
    """Of the fairseq that is installed: a new option of another version fails here until somebody has looked at it."""
    for name, (config, rows) in table.GROUPS.items():
        fields = {field.name for field in dataclasses.fields(config)} - {"_name"}
        assert fields <= set(rows), name
        assert set(rows) - fields <= set(table.NOT_IN_STOCK), name  # a row whose option no version has
    groups = {field.name for field in dataclasses.fields(configs.FairseqConfig)}
    # the rest is named by --task, --arch and the like, and belongs to these
    of_choices = {"_name", "model", "task", "criterion", "optimizer", "lr_scheduler", "scoring", "bpe", "tokenizer"}
    assert groups - of_choices - {"simul_type"} == set(table.GROUPS)


def test_rows_name_tests_that_exist():
    for group, field, row in ALL:
        assert row.verdict in (table.HONOURED, table.REFUSED, table.NO_EFFECT) and row.note, (group, field)
        if row.verdict == table.HONOURED:
            name = re.match(r"test_\w+\.py", row.note)
            assert name and (ROOT / "tests" / "integration" / name[0]).exists(), (group, field)


def test_the_page_is_the_table():
    if os.environ.get("WRITE_DOCS") == "1":
        DOCS.write_text(table.as_markdown(), encoding="utf-8")
    written = DOCS.read_text(encoding="utf-8").splitlines()
    assert [line for line in table.as_markdown().splitlines() if line not in written] == []


def configuration(group=None, field=None):
    """The defaults of all groups, with one field set to another value."""
    cfg = SimpleNamespace(task=SimpleNamespace(_name="byte_level_lm"))
    for name, (config, _) in table.GROUPS.items():
        setattr(cfg, name, SimpleNamespace(**vars(config())))
    cfg.dataset.max_tokens_valid, cfg.dataset.batch_size_valid = cfg.dataset.max_tokens, cfg.dataset.batch_size
    if group is not None:
        value = getattr(getattr(cfg, group), field)
        changed = (not value) if isinstance(value, bool) else value + 6 if isinstance(value, (int, float)) else "other"
        setattr(getattr(cfg, group), field, changed)
    return cfg


def of_verdict(verdict):
    fields = {
        (name, field.name): field for name, (config, _) in table.GROUPS.items() for field in dataclasses.fields(config)
    }
    return [
        pytest.param(group, field, row, id=table.option_of(field)[2:])
        for group, field, row in ALL
        if row.verdict == verdict and group not in OF_TOOLS
        if (group, field) in fields and "${" not in str(fields[group, field].default)
    ]


def test_defaults_pass_in_silence(caplog):
    with caplog.at_level(logging.WARNING):
        table.check_options(configuration())
    assert not caplog.records


@pytest.mark.parametrize("group, field, row", of_verdict(table.REFUSED))
def test_refused_options_end_in_one_line(group, field, row):
    with pytest.raises(UsageError, match=f"^{table.option_of(field)} does not work with --task byte_level_lm: "):
        table.check_options(configuration(group, field))


@pytest.mark.parametrize("group, field, row", of_verdict(table.NO_EFFECT))
def test_options_without_an_effect_are_named_in_the_log(group, field, row, caplog):
    with caplog.at_level(logging.WARNING):
        table.check_options(configuration(group, field))
    assert [record.message.split(" with ")[0] for record in caplog.records] == [
        f"{table.option_of(field)} has no effect"
    ]


@pytest.mark.parametrize("group, field, row", of_verdict(table.HONOURED))
def test_honoured_options_pass_in_silence(group, field, row, caplog):
    with caplog.at_level(logging.WARNING):
        table.check_options(configuration(group, field))
    assert not caplog.records


@pytest.mark.parametrize(
    "options, message",
    [
        (("--combine-valid-subsets",), r"--combine-valid-subsets does not work with .*--valid-subset valid,valid1"),
        (("--dataset-impl", "raw"), "--dataset-impl does not work with --task byte_level_lm"),
        (("--zero-sharding", "os"), "--zero-sharding does not work with"),
        (("--profile",), "--profile is CUDA's profiler and needs a GPU"),
        (("--max-tokens", 100), "--max-tokens 100 does not go with --batch-size 4"),
        (("--skip-remainder-batch",), "--skip-remainder-batch does not work with"),
        (("--use-bmuf",), "--use-bmuf does not work with"),
        ((), r"DATA has valid1, which --valid-subset valid would leave out: .*--valid-subset valid,valid1"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_refused_on_the_command_line(corpus, tmp_path, options, message):
    data = with_second_valid(corpus, tmp_path) if not options or "--combine-valid-subsets" in options else corpus
    refused = train_forked(data, tmp_path / "new", *options)
    assert refused.code == 1 and "Traceback" not in refused.output
    assert re.search(f"^error: {message}", refused.line("error:"))


def with_second_valid(corpus, folder):
    data = folder / "data"
    data.mkdir()
    for name in ("train", "valid", "test"):
        (data / name).write_bytes((corpus / name).read_bytes())
    (data / "valid1").write_bytes((corpus / "test").read_bytes())
    return data


def test_both_ways_that_the_message_names_work(corpus, tmp_path):
    data = with_second_valid(corpus, tmp_path)
    both = train_forked(data, tmp_path / "both", "--valid-subset", "valid,valid1")
    assert both.code == 0 and "valid on 'valid1' subset" in both.output
    one = train_forked(data, tmp_path / "one", "--ignore-unused-valid-subsets")
    assert one.code == 0 and "valid1" not in one.line("valid on ")


def test_accepted_together(corpus, tmp_path):
    """Options that fairseq handles by itself, next to those that are read by the tasks."""
    done = train_forked(
        *(corpus, tmp_path, "--sentence-avg", "--num-workers", 0, "--batch-size-valid", 3, "--max-valid-steps", 2),
        *("--fixed-validation-seed", 7, "--log-file", tmp_path / "log", "--save-interval", 1, "--no-last-checkpoints"),
        *("--checkpoint-suffix", "_x", "--maximize-best-checkpoint-metric", "--empty-cache-freq", 1),
    )
    assert done.code == 0, done.output[-2000:]
    assert (tmp_path / "checkpoint_best_x.pt").exists() and not (tmp_path / "checkpoint_last_x.pt").exists()


def test_max_tokens_give_the_number_of_lanes(corpus, trained, tmp_path):
    model = ["--arch", "sha_rnn_tiny", "--decoder-embed-dim", 32, "--boom-dim", 64, "--cpu", "--user-dir", USER_DIR]
    model += ["--task", "byte_level_lm", "--optimizer", "lamb_min_trust", "--lr", 1e-3, "--log-format", "simple"]
    options = [
        "--tokens-per-sample",
        32,
        "--max-tokens",
        100,
        "--no-bptt-jitter",
        "--max-update",
        1,
        "--log-interval",
        1,
    ]
    done = run_forked("train", corpus, *model, *options, "--save-dir", tmp_path)
    assert done.code == 0 and "wpb=96" in done.line("train_inner"), done.output[-2000:]
    path = trained[0] / "checkpoint_last.pt"
    lanes = [
        eval_forked(corpus, path, "--tokens-per-sample", 32, *given).output
        for given in (("--max-tokens", 100), ("--batch-size", 3))
    ]
    losses = [re.search(r"Loss \(base 2\): ([\d.]+)", output).group(1) for output in lanes]
    assert losses[0] == losses[1]


def test_evaluation(corpus, trained):
    path = trained[0] / "checkpoint_last.pt"
    refused = eval_forked(corpus, path, "--remove-bpe")
    assert refused.code == 1 and "error: --post-process does not work with" in refused.line("error:")
    several = run_forked(
        *("validate", corpus, "--user-dir", USER_DIR, "--task", "byte_level_lm", "--cpu", "--batch-size", 2),
        *("--path", f"{path}:{path}"),
    )
    assert several.code == 1 and "fairseq-validate takes one checkpoint" in several.line("error:")
    for options in (("--output-word-probs",), ("--output-word-stats",), ("--softmax-batch", 50), ("--quiet",)):
        done = eval_forked(corpus, path, "--tokens-per-sample", 32, *options)
        assert done.code == 0 and "Evaluated 2,001 tokens" in done.output, (options, done.output[-2000:])


def test_several_checkpoints_are_averaged(corpus, trained, tmp_path):
    """By probability, as `score` does: better than the mean of both losses."""
    train_forked(corpus, tmp_path, "--max-update", 6, "--seed", 5)
    paths = [trained[0] / "checkpoint_last.pt", tmp_path / "checkpoint_last.pt"]
    outputs = [
        eval_forked(corpus, path, "--tokens-per-sample", 32).output for path in (*paths, f"{paths[0]}:{paths[1]}")
    ]
    one, two, both = (float(re.search(r"Loss \(base 2\): ([\d.]+)", output).group(1)) for output in outputs)
    assert both < (one + two) / 2 and min(one, two) - 1 < both and both not in (one, two)
