"""Text without spaces on the command line: prepared, trained on, evaluated; and what a word is there is said."""

import json
import math

import pytest

from tests.integration.forked import run_script, train_forked

CHINESE = "今天天气很好\n我们去公园\n明天下雨\n" * 200
NOTE = "100% of its characters are of scripts that put no spaces between words"


@pytest.mark.parametrize(
    "command",
    [
        ("sentencepiece", "--vocab-size", 271),
        ("sentencepiece", "--vocab-size", 271, "--model-type", "bpe"),
        ("sentencepiece",),
        ("word",),
        ("bytes",),
    ],
    ids=lambda command: "-".join(map(str, command)).replace("--", ""),
)
def test_chinese_is_prepared_and_trained_on(tmp_path, command):
    (tmp_path / "t").write_text(CHINESE, encoding="utf-8")
    kind, *options = command
    sources = [part for split in ("train", "valid", "test") for part in (f"--{split}", tmp_path / "t")]
    done = run_script("prepare_text", kind, tmp_path / "o", *options, *sources)
    assert done.code == 0, done.output[-2000:]
    assert NOTE in done.line("note:")
    about = json.loads((tmp_path / "o" / "tokenizer.json").read_text(encoding="utf-8"))
    assert about["splits"]["test"]["bytes"] == len(CHINESE.encode()) and NOTE in about["note"]
    task = "byte_level_lm" if kind == "bytes" else "streaming_lm"
    trained = train_forked(tmp_path / "o", tmp_path / "saved", "--task", task)
    assert trained.code == 0, trained.output[-2000:]
    scored = run_script(
        *("evaluate_text", tmp_path / "saved" / "checkpoint_last.pt", tmp_path / "o", "--cpu"),
        *("--tokens-per-sample", 32, "--json", tmp_path / "json"),
    )
    assert scored.code == 0, scored.output[-2000:]
    assert math.isfinite(json.loads((tmp_path / "json").read_text())["bits_per_byte"])
