"""--trust-log: the trust ratio of each tensor over training, under the tensors' own names."""

import json

import pytest

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.optim.trust_log import TrustLog, read_trust_log
from tests.integration.checkpoints import load
from tests.integration.forked import train_forked


def logged(path):
    return ("--trust-log", path, "--trust-log-interval", 2)


@pytest.mark.parametrize(
    "precision", [(), ("--bf16",), ("--amp",), ("--memory-efficient-fp16", "--fp16-init-scale", 4)]
)
def test_every_tensor_by_name(tmp_path, corpus, precision):
    path = tmp_path / "trust.jsonl"
    finished = train_forked(corpus, tmp_path / "run", *logged(path), "--max-update", 5, *precision)
    assert finished.code == 0, finished.output[-3000:]
    lines = read_trust_log(path)
    assert [line["update"] for line in lines] == [2, 4]
    names = set(load(tmp_path / "run" / "checkpoint_last.pt")["model"])
    for line in lines:
        assert set(line["trust"]) == names
        assert min(line["trust"].values()) == 0.25 and max(line["trust"].values()) > 0.25


def test_a_resumed_run_writes_each_update_once(tmp_path, corpus):
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    assert train_forked(corpus, tmp_path / "a", *logged(whole), "--max-update", 8).code == 0
    assert train_forked(corpus, tmp_path / "b", *logged(parts), "--max-update", 5).code == 0
    with open(parts, "a") as file:  # what a killed run had written after its last checkpoint
        file.write(json.dumps({"update": 6, "trust": {"x": 9.0}}) + '\n{"update": 8, "tr')
    assert train_forked(corpus, tmp_path / "b", *logged(parts), "--max-update", 8).code == 0
    assert read_trust_log(parts) == read_trust_log(whole)
    assert [line["update"] for line in read_trust_log(whole)] == [2, 4, 6, 8]


def test_without_the_option_nothing_is_kept(tmp_path, corpus):
    assert train_forked(corpus, tmp_path / "run", "--max-update", 2).code == 0
    assert not list(tmp_path.glob("*.jsonl"))


def test_interval_and_path_are_checked(tmp_path):
    with pytest.raises(UsageError, match="--trust-log-interval must be at least 1, but it is 0"):
        TrustLog(str(tmp_path / "x"), 0)
    with pytest.raises(UsageError, match=r"cannot write --trust-log .*: No such file"):
        TrustLog(str(tmp_path / "gone" / "x"), 1).write(1, {"a": 1.0})
