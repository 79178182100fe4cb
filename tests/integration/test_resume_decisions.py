"""A resumed run decides as the run that was not stopped: when it ends, which checkpoint is best, which learning rate."""

import re
import shutil

import pytest
import torch

from tests.conftest import write_corpus
from tests.integration.checkpoints import differences, load
from tests.integration.forked import train_forked

LONG = ("--log-interval", 1, "--max-update", 100_000)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Eleven updates an epoch."""
    return write_corpus(tmp_path_factory.mktemp("small"), 1300, 300, 300)


def trained(data, save_dir, *options):
    finished = train_forked(data, save_dir, *LONG, *options)
    assert finished.code == 0, finished.output[-3000:]
    return finished


def in_parts(data, save_dir, option, stops, *options):
    """The output of one run that is stopped at each of the stops and resumed."""
    return "".join(trained(data, save_dir, *options, option, stop).output for stop in stops)


def rates(output):
    """The learning rate as printed, by update."""
    return {int(update): rate for update, rate in re.findall(r"train_inner.*?num_updates=(\d+), lr=([^,]+)", output)}


def epochs(output):
    return [int(epoch) for epoch in re.findall(r"end of epoch (\d+)", output)]


@pytest.mark.parametrize("stops", [(3, 12), (1, 2, 4, 12)], ids=str)
def test_patience_counts_on(small, tmp_path, stops):
    """Nothing gets better with a learning rate of 0: three epochs after the first one the run ends."""
    options = ("--lr", 0, "--patience", 3)
    assert epochs(in_parts(small, tmp_path / "whole", "--max-epoch", [12], *options)) == [1, 2, 3, 4]
    assert epochs(in_parts(small, tmp_path / "parts", "--max-epoch", stops, *options)) == [1, 2, 3, 4]


def test_patience_counts_validations_in_mid_epoch(small, tmp_path):
    """A stop by --max-update adds a validation, which the run that was not stopped does not have."""
    options = ("--lr", 0, "--patience", 5, "--validate-interval-updates", 4, "--max-epoch", 12)
    whole = in_parts(small, tmp_path / "whole", "--max-update", [1000], *options)
    parts = in_parts(small, tmp_path / "parts", "--max-update", [6, 13, 1000], *options)
    assert max(rates(whole)) == max(rates(parts)) < 30


def test_what_is_finished_is_left_as_it_is(small, tmp_path):
    """The same command again: not one more update, and every file as it was."""
    for name, options in {
        "updates": ("--max-update", 5),
        "patience": ("--lr", 0, "--patience", 1, "--max-epoch", 9),
        "epochs": ("--max-epoch", 1),
        "hours": ("--stop-time-hours", 1e-9, "--max-epoch", 9),
    }.items():
        trained(small, tmp_path / name, *options)
        before = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        again = trained(small, tmp_path / name, *options)
        assert rates(again.output) == {}, name
        assert {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} == before
        assert name == "epochs" or "nothing is left to train" in again.output
    more = trained(small, tmp_path / "updates", "--max-update", 7)
    assert list(rates(more.output)) == [6, 7]


def test_a_checkpoint_without_the_counter_still_loads(small, tmp_path):
    options = ("--lr", 0, "--patience", 3)
    trained(small, tmp_path, *options, "--max-epoch", 2)
    state = load(tmp_path / "checkpoint_last.pt")
    del state["extra_state"]["fairseq_sharnn"]
    torch.save(state, tmp_path / "checkpoint_last.pt")
    assert epochs(trained(small, tmp_path, *options, "--max-epoch", 4).output) == [3, 4]


SCHEDULES = {
    "fixed": ("--lr", "5e-3,4e-3,3e-3", "--warmup-updates", 15),
    "annealed": ("--force-anneal", 2, "--lr-shrink", 0.5),
    "tri_stage": ("--lr-scheduler", "tri_stage", "--warmup-steps", 5, "--hold-steps", 5, "--decay-steps", 30),
    "plateau": ("--lr-scheduler", "reduce_lr_on_plateau", "--lr-patience", 0, "--lr-threshold", 0.9),
    "plateau after two": (
        *("--lr-scheduler", "reduce_lr_on_plateau", "--lr-patience", 1, "--lr-threshold", 0.9),
        *("--warmup-updates", 9, "--lr-shrink", 0.5),
    ),
}


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_learning_rates_are_those_of_the_run_that_was_not_stopped(small, tmp_path, name):
    """Stopped in the middle of two epochs, and at the ends of others."""
    options = SCHEDULES[name]
    whole = rates(trained(small, tmp_path / "whole", *options, "--max-epoch", 4).output)
    assert len(whole) > 40 and len(set(whole.values())) > 1, "the schedule does something"
    stops = [("--max-update", 7), ("--max-epoch", 2), ("--max-update", 29), ("--max-epoch", 3), ("--max-epoch", 4)]
    parts = "".join(trained(small, tmp_path / "parts", *options, *stop).output for stop in stops)
    assert rates(parts) == whole


def test_stop_min_lr_is_looked_at_when_an_epoch_begins(small, tmp_path):
    options = (
        "--lr-scheduler",
        "polynomial_decay",
        "--total-num-update",
        30,
        "--stop-min-lr",
        3.5e-3,
        "--max-epoch",
        9,
    )
    whole = rates(in_parts(small, tmp_path / "whole", "--max-update", [1000], *options))
    assert rates(in_parts(small, tmp_path / "parts", "--max-update", [10, 1000], *options)) == whole


@pytest.mark.parametrize(
    "options",
    [
        ("--fp16", "--fp16-init-scale", 4, "--fp16-scale-window", 5),
        ("--memory-efficient-fp16", "--fp16-init-scale", 4, "--fp16-scale-window", 5),
        ("--store-ema", "--ema-decay", 0.5, "--ema-update-freq", 4),
        ("--store-ema", "--ema-decay", 0.5, "--ema-fp32", "--ema-start-update", 9),
        ("--keep-interval-updates", 2, "--save-interval-updates", 3, "--keep-last-epochs", 1),
        ("--keep-best-checkpoints", 2, "--best-checkpoint-metric", "bpb"),
    ],
    ids=lambda options: " ".join(map(str, options[:2])),
)
def test_the_rest_of_the_state(small, tmp_path, options):
    """Loss scales and when they grow, averages of the weights, lists of checkpoints that are kept."""
    in_parts(small, tmp_path / "whole", "--max-update", [25], *options)
    in_parts(small, tmp_path / "parts", "--max-update", [6, 18, 25], *options)
    last = [tmp_path / name / "checkpoint_last.pt" for name in ("whole", "parts")]
    assert differences(*last) == []
    one, two = (load(path) for path in last)
    for key in ("loss_scale", "loss_scale_schedule"):
        assert one["last_optimizer_state"].get(key) == two["last_optimizer_state"].get(key)
    for key in ("ema", "ema_fp32_params"):
        for name, tensor in one["extra_state"].get(key, {}).items():
            assert torch.equal(tensor, two["extra_state"][key][name]), name
    assert "--store-ema" not in options or "ema" in one["extra_state"]
    if "--keep-interval-updates" in options:
        names = [{path.name for path in (tmp_path / name).iterdir()} for name in ("whole", "parts")]
        assert names[0] == names[1]


def test_an_average_begins_at_a_resume(small, tmp_path):
    trained(small, tmp_path, "--max-update", 3)
    resumed = trained(small, tmp_path, "--max-update", 5, "--store-ema")
    assert "has no average of the weights: it begins with the weights themselves" in resumed.output
    assert "ema" in load(tmp_path / "checkpoint_last.pt")["extra_state"]


def test_updates_count_on_without_optimizer_state(small, tmp_path):
    options = ("--no-save-optimizer-state", "--warmup-updates", 20)
    whole = rates(in_parts(small, tmp_path / "whole", "--max-update", [12], *options))
    parts = in_parts(small, tmp_path / "parts", "--max-update", [5, 12], *options)
    assert rates(parts) == whole
    assert "has no optimizer state (--no-save-optimizer-state): updates count on from 5" in parts


def test_another_schedule_is_refused_in_one_line(small, tmp_path):
    trained(small, tmp_path, "--max-update", 3)
    other = ("--lr-scheduler", "cosine", "--max-update", 5)
    refused = train_forked(small, tmp_path, *LONG, *other)
    assert refused.code == 1 and "Traceback" not in refused.output
    assert "was trained with another --lr-scheduler" in refused.line("error:")
    assert "--reset-lr-scheduler" in refused.line("error:")
    trained(small, tmp_path, *other, "--reset-lr-scheduler")


def best_updates(folder):
    return load(folder / "checkpoint_best.pt")["optimizer_history"][-1]["num_updates"]


@pytest.mark.parametrize("options", [(), ("--reset-meters",)], ids=["noticed", "as advised"])
def test_the_best_checkpoint_of_another_text_is_replaced(tmp_path, options):
    """A validation text of one letter is learnt in no time; no loss on real text is as low."""
    data = write_corpus(tmp_path / "data", 1300, 300, 300)
    text = (data / "train").read_bytes(), (data / "valid").read_bytes()
    (data / "train").write_bytes(b"a" * 1300)
    (data / "valid").write_bytes(b"a" * 300)
    keeps = ("--keep-best-checkpoints", 1, "--patience", 2, "--best-checkpoint-metric", "bpb")
    trained(data, tmp_path / "out", "--max-update", 30, *keeps)
    kept = [path.name for path in (tmp_path / "out").glob("checkpoint.best*")]
    (data / "train").write_bytes(text[0])
    (data / "valid").write_bytes(text[1])
    refused = train_forked(data, tmp_path / "out", *LONG, "--max-update", 60)
    assert refused.code == 1 and "--reset-dataloader --reset-meters" in refused.line("error:")
    trained(data, tmp_path / "out", "--max-update", 60, "--reset-dataloader", *keeps, *options)
    assert best_updates(tmp_path / "out") > 30
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert {f"old.{name}" for name in kept} <= left and not left & set(kept)
    shutil.rmtree(tmp_path / "out")
