"""Dynamic evaluation by every program: one number, a model that is unchanged, and score first, learn after."""

import json
import math
import re
import shlex
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.tokenization.segmentations import ListCorpus
from fairseq_sharnn.evaluation.dynamic import DynamicSettings
from fairseq_sharnn.evaluation.scoring import Scorer
from tests.conftest import USER_DIR, eval_lm, run_command
from tests.integration.checkpoints import load
from tests.integration.forked import eval_forked, run_forked, run_script, train_forked
from tests.integration.test_old_checkpoint import OLD, made_text
from tests.integration.test_precision import without_kernels

LEARN = ("--dynamic-lr", 0.003)
SAYS = "dynamic (adam, lr 0.003, decay 0, clip 0.25)"
TRANSFORMER = (
    "--arch transformer_lm --decoder-embed-dim 32 --decoder-ffn-embed-dim 64 --decoder-layers 1"
    " --decoder-attention-heads 2 --share-decoder-input-output-embed"
)
LSTM = "--arch lstm_lm --decoder-embed-dim 32 --decoder-hidden-size 32 --decoder-out-embed-dim 32 --decoder-layers 1"
TEST_BYTES = 2001


def bits(finished) -> float:
    assert finished.code == 0, finished.output[-3000:]
    assert f"Evaluated {TEST_BYTES:,} tokens" in finished.output
    return float(re.search(r"Loss \(base 2\): ([\d.]+)", finished.output)[1])


def validate(data, checkpoint, *options):
    return run_forked(
        *("validate", data, "--user-dir", USER_DIR, "--task", "byte_level_lm", "--cpu", "--path", checkpoint),
        *("--valid-subset", "test", "--log-format", "simple", *options),
    )


@pytest.fixture(scope="module", params=["transformer", "lstm"])
def stateless(request, corpus, tmp_path_factory):
    """The checkpoint of a stateless model of fairseq."""
    folder = tmp_path_factory.mktemp(request.param)
    model = {"transformer": TRANSFORMER, "lstm": LSTM}[request.param].split()
    done = train_forked(corpus, folder, "--max-update", 4, model=model, recipe="--optimizer adam --lr 1e-3".split())
    assert done.code == 0, done.output[-3000:]
    return folder / "checkpoint_last.pt"


def test_every_program_prints_the_same_number(trained, corpus, tmp_path):
    checkpoint, lanes, length = trained[0] / "checkpoint_best.pt", ("--batch-size", 3), ("--tokens-per-sample", 64)
    before = checkpoint.read_bytes()
    static = bits(eval_forked(corpus, checkpoint, *lanes, *length))
    finished = eval_lm(corpus, checkpoint, *lanes, *length, *LEARN)
    dynamic = bits(finished)
    assert dynamic < static - 0.1, "the text is like itself, and the model has hardly been trained"
    assert finished.line("bits per byte, perplexity").endswith(f", {SAYS}") and f"evaluation: {SAYS}" in finished.output
    validated = validate(corpus, checkpoint, *lanes, *length, *LEARN)
    assert validated.code == 0, validated.output[-3000:]
    assert float(re.search(r"bpb ([\d.]+)", validated.line("valid on 'test'"))[1]) == pytest.approx(dynamic, abs=2e-4)
    assert f"evaluation: {SAYS}" in validated.output
    scored = run_script("evaluate_text", checkpoint, corpus, "--cpu", *lanes, *length, *LEARN, "--json", tmp_path / "j")
    assert f"evaluation           {SAYS}, " in scored.output, scored.output
    figures = json.loads((tmp_path / "j").read_text())
    assert figures["bits_per_byte"] == pytest.approx(dynamic, abs=2e-4)
    assert (figures["evaluation"], figures["dynamic_lr"]) == ("dynamic", 0.003) and figures["seconds"] > 0
    command = ("-m", "fairseq_sharnn", "score", corpus / "test", "--model", checkpoint, "--lanes", 3, "--chunk", 64)
    portable = run_command(sys.executable, *command, *LEARN)
    assert portable.code == 0, portable.output
    found = re.search(r"([\d.]+) bits per byte \(2,001 bytes\), (.*), [\d.]+ s", portable.output)
    assert float(found[1]) == pytest.approx(dynamic, abs=2e-4) and found[2] == SAYS
    assert checkpoint.read_bytes() == before


def test_static_figures_say_so(trained, corpus, tmp_path):
    checkpoint = trained[0] / "checkpoint_best.pt"
    finished = eval_forked(corpus, checkpoint, "--tokens-per-sample", 64)
    assert finished.line("bits per byte, perplexity").endswith(", static") and "evaluation: static" in finished.output
    scored = run_script("evaluate_text", checkpoint, corpus, "--cpu", "--json", tmp_path / "j")
    assert "evaluation           static, " in scored.output
    assert json.loads((tmp_path / "j").read_text())["evaluation"] == "static"


@pytest.mark.parametrize("optimizer", ["rms", "sgd"])
def test_other_optimizers_by_the_command_line(trained, corpus, optimizer):
    rate = {"rms": 0.0005, "sgd": 0.1}[optimizer]
    lane = (
        "--tokens-per-sample",
        64,
        "--batch-size",
        1,
    )  # lanes that begin with </s> cost this model more than it learns
    options = (*lane, "--dynamic-lr", rate, "--dynamic-optimizer", optimizer)
    options += ("--dynamic-decay", 0.001, "--dynamic-clip", 1.0)
    finished = eval_forked(corpus, trained[0] / "checkpoint_best.pt", *options)
    assert f"dynamic ({optimizer}, lr {rate:g}, decay 0.001, clip 1)" in finished.output
    static = bits(eval_forked(corpus, trained[0] / "checkpoint_best.pt", *lane))
    assert bits(finished) < static - 0.003


@pytest.mark.parametrize("how", ["checkpointing", "no kernels", "fp16", "bf16"])
def test_what_training_has_works_here_too(trained, corpus, how):
    """fp16: weights in half precision. fairseq-eval-lm takes --bf16 and scores in float32, static or not."""
    common = (corpus, trained[0] / "checkpoint_best.pt", "--tokens-per-sample", 64, *LEARN)
    options = {"checkpointing": ("--model-overrides", "{'checkpoint_activations':True}")}.get(how, ())
    options = {"fp16": ("--fp16",), "bf16": ("--bf16",)}.get(how, options)
    before = without_kernels if how == "no kernels" else None
    allowed = 0.02 if how == "fp16" else 2e-4
    assert bits(eval_forked(*common, *options, before=before)) == pytest.approx(bits(eval_forked(*common)), abs=allowed)


def test_stateless_models_learn_in_file_order(stateless, corpus):
    common = (corpus, stateless, "--tokens-per-sample", 32)
    for windows in ((), ("--context-window", 24, "--batch-size", 7)):  # 8 windows a step where nothing is said
        static = bits(eval_forked(*common, *windows))
        assert bits(eval_forked(*common, *windows, *LEARN)) < static - 0.05
    blocks = ("--batch-size", 7, "--tokens-per-sample", 32, *LEARN)
    validated = re.search(r"bpb ([\d.]+)", validate(corpus, stateless, *blocks).line("valid on 'test'"))
    assert float(validated[1]) == pytest.approx(bits(eval_forked(*common, "--batch-size", 7, *LEARN)), abs=2e-4)


def test_a_checkpoint_from_before_these_options(tmp_path):
    """fairseq ignores overrides of options that a checkpoint's configuration does not have."""
    assert "dynamic_lr" not in load(OLD)["cfg"]["task"]
    (tmp_path / "test").write_bytes(made_text(1001, 3))
    options = ("--batch-size", 4, "--tokens-per-sample", 32)
    found = [
        float(re.search(r"bpb ([\d.]+)", validate(tmp_path, OLD, *options, *learn).line("valid on 'test'"))[1])
        for learn in ((), LEARN)
    ]
    assert found[1] < found[0] - 0.02


def nats(scorer: Scorer, ids, dynamic, **options) -> np.ndarray:
    return scorer.nats(ListCorpus(ids), dynamic=dynamic, **options)


def test_no_window_depends_on_what_follows_it(stateless, corpus):
    """Any windows, context and batch: change the text after a place, and no score before it changes, to the last bit."""
    scorer = Scorer(str(stateless), str(corpus), cpu=True)
    before = {name: tensor.clone() for name, tensor in scorer.model.state_dict().items()}

    @given(data=st.data())
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    def check(data):
        ids = np.array(data.draw(st.lists(st.integers(4, 259), min_size=2, max_size=60)))
        window = data.draw(st.integers(1, 20))
        options = {"tokens_per_sample": window, "batch_size": data.draw(st.integers(1, 5))}
        options["context_window"] = data.draw(st.integers(0, window - 1))
        place = data.draw(st.integers(0, len(ids) - 1))
        other = np.concatenate([ids[:place], 4 + (ids[place:] + 100) % 256])
        dynamic = DynamicSettings(0.01)
        found = nats(scorer, ids, dynamic, **options)
        assert (found[:place] == nats(scorer, other, dynamic, **options)[:place]).all()
        assert len(found) == len(ids) and np.isfinite(found).all()

    check()
    after = scorer.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_windows_are_scored_as_in_a_plain_loop(stateless, corpus):
    scorer = Scorer(str(stateless), str(corpus), cpu=True)
    ids = np.frombuffer((corpus / "test").read_bytes()[:300], np.uint8).astype(np.int64) + 4
    options = {"tokens_per_sample": 20, "context_window": 8, "batch_size": 3}
    found = nats(scorer, ids, DynamicSettings(0.7, "sgd", clip=0.1), **options)
    again = nats(scorer, ids, DynamicSettings(0.7, "sgd", clip=0.1), **options)
    assert (found == again).all(), "the second pass starts from the trained weights"
    model = scorer.model
    optimizer, expected = torch.optim.SGD(model.parameters(), lr=0.7), []
    for number in range(0, len(ids), 3 * 12):
        blocks = [slice(start, start + 12) for start in range(number, min(number + 36, len(ids)), 12)]
        loss = []
        for block in blocks:
            first = max(0, block.start - 8)
            inputs = np.concatenate([[2], ids])[first : min(block.stop, len(ids))]
            logits = model(torch.from_numpy(inputs)[None])[0][0, block.start - first :]
            loss.append(torch.nn.functional.cross_entropy(logits, torch.from_numpy(ids[block]), reduction="none"))
        expected.append(torch.cat(loss).detach())
        optimizer.zero_grad()
        torch.cat(loss).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    assert np.abs(found - torch.cat(expected).numpy()).max() < 2e-3
    static = nats(Scorer(str(stateless), str(corpus), cpu=True), ids, DynamicSettings(), **options)
    assert found.mean() < static.mean() - 0.05


def test_the_model_comes_back_after_an_error(trained, corpus, monkeypatch):
    scorer = Scorer(str(trained[0] / "checkpoint_best.pt"), str(corpus), cpu=True)
    before = {name: tensor.clone() for name, tensor in scorer.model.state_dict().items()}
    vector = scorer.model.decoder.network.blocks[0].attention.value
    collapsed, calls, forward = vector.collapsed, [], scorer.model.decoder.network.forward

    def fails_at_last(*args):
        calls.append(vector.collapsed)
        if len(calls) == 4:
            raise KeyError
        return forward(*args)

    monkeypatch.setattr(scorer.model.decoder.network, "forward", fails_at_last)
    with pytest.raises(KeyError):
        scorer.nats(scorer.corpus("test"), tokens_per_sample=32, dynamic=DynamicSettings(0.1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in scorer.model.state_dict().items())
    assert collapsed and vector.collapsed and calls == [False] * 4, "over-parameterised while it learns"
    static = scorer.nats(scorer.corpus("valid"), tokens_per_sample=32)
    assert math.isfinite(static.sum())


def test_tuning_prints_a_table_and_a_command_that_works(trained, corpus):
    checkpoint = trained[0] / "checkpoint_best.pt"
    options = (
        checkpoint,
        corpus,
        "--cpu",
        "--batch-size",
        1,
        "--rates",
        "3e-3,1e-9",
        "--decays",
        "1e-3",
        "--most",
        900,
    )
    first, second = (run_script("tune_dynamic", *options, "--tokens-per-sample", 16) for _ in range(2))
    assert first.code == 0, first.output
    assert f"{corpus / 'valid'}, the first 900 bytes" in first.output
    rows = re.findall(r"^(static|dynamic) +([\d.e-]*) +([\d.e-]*) +([\d.]+) +[\d.]+$", first.output, re.MULTILINE)
    static, low, rate, beyond, decay = rows
    assert (static[0], low[1:3], rate[1:3]) == ("static", ("1e-09", "0"), ("0.003", "0"))
    better = min(low, rate, key=lambda row: float(row[3]))  # an end of the range, so one more is tried beyond it
    assert beyond[1:3] == ("0.006" if better is rate else "5e-10", "0") and decay[2] == "0.001"
    assert float(low[3]) == pytest.approx(float(static[3]), abs=1e-3) and rate[3] != low[3]
    chosen = min(rows, key=lambda row: float(row[3]))
    command = shlex.split(first.output.splitlines()[-1])
    given = command[command.index("--dynamic-lr") + 1] if "--dynamic-lr" in command else ""
    assert command[0] == "scripts/evaluate_text.py" and given == chosen[1]
    evaluated = run_script("evaluate_text", *command[1:])
    assert evaluated.code == 0 and f"evaluation           {chosen[0]}" in evaluated.output, evaluated.output

    def bits_of(finished):
        return re.sub(r" +[\d.]+$", "", finished.output, flags=re.MULTILINE)

    assert bits_of(first) == bits_of(second)
