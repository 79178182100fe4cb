"""The main job through fairseq's own command lines: train, validate, evaluate, configure by hydra."""

import math
import re

import pytest
import torch

from fairseq_sharnn.registration import register
from tests.conftest import MICRO, USER_DIR, eval_lm, fairseq, train
from tests.integration.forked import eval_forked, run_forked, train_forked

TEST_BYTES = 2001


def evaluated(finished) -> int:
    return int(re.search(r"Evaluated ([\d,]+) tokens", finished.output).group(1).replace(",", ""))


def bits(finished) -> float:
    return float(re.search(r"Loss \(base 2\): ([\d.]+)", finished.output).group(1))


def test_training_learns_and_logs_bits_per_byte(trained):
    folder, finished = trained
    curve = [float(value) for value in re.findall(r"train_inner .*? bpb=([\d.]+)", finished.output)]
    assert len(curve) == 30
    assert 7.5 < curve[0] < 8.5 and curve[-1] < 6.0
    for line in finished.output.splitlines():
        if "train_inner" in line:
            loss = float(re.search(r" loss=([\d.]+)", line).group(1))
            assert float(re.search(r"bpb=([\d.]+)", line).group(1)) == pytest.approx(loss, abs=6e-4)
    assert re.search(r"valid on 'valid' subset \| bpb \d\.\d+ \| loss \d", finished.line("valid on"))
    assert (folder / "checkpoint_best.pt").exists() and (folder / "checkpoint_last.pt").exists()


def test_training_is_free_of_warnings(trained):
    _, finished = trained
    assert "Warning" not in finished.output


def test_warm_up_is_linear_then_constant(trained):
    """Spec: lr · min(n, W) / W at the n-th update. fairseq's log line of update n shows the rate of update n + 1."""
    _, finished = trained
    rates = [float(value) for value in re.findall(r"train_inner .*? lr=([\d.e-]+)", finished.output)]
    assert rates[:6] == pytest.approx([2e-3, 3e-3, 4e-3, 5e-3, 5e-3, 5e-3], rel=1e-3)
    assert rates[-1] == pytest.approx(5e-3)


@pytest.mark.parametrize("lanes", [1, 3, 16])
def test_evaluation_counts_every_byte(trained, corpus, lanes):
    folder, _ = trained
    finished = eval_lm(corpus, folder / "checkpoint_best.pt", "--batch-size", lanes, "--tokens-per-sample", 64)
    assert finished.code == 0, finished.output[-2000:]
    assert evaluated(finished) == TEST_BYTES


@pytest.mark.parametrize("lanes", [("--batch-size", 5), ("--max-tokens", 450)])
@pytest.mark.parametrize("extra", [(), ("--tokens-per-sample", 7), ("--context-window", 100)])
def test_evaluation_counts_every_byte_with_other_options(trained, corpus, lanes, extra):
    folder, _ = trained
    finished = eval_forked(corpus, folder / "checkpoint_best.pt", *lanes, "--tokens-per-sample", 90, *extra)
    assert finished.code == 0, finished.output[-2000:]
    assert evaluated(finished) == TEST_BYTES


def test_evaluation_without_a_batch_size_has_eight_lanes(trained, corpus):
    folder, _ = trained
    default = eval_forked(corpus, folder / "checkpoint_best.pt", "--tokens-per-sample", 64)
    eight = eval_forked(corpus, folder / "checkpoint_best.pt", "--tokens-per-sample", 64, "--batch-size", 8)
    assert bits(default) == bits(eight)


def test_chunk_length_does_not_change_a_models_score(trained, corpus):
    """State is carried: with all of memory in reach, chunks of 8 and of 64 bytes see the same past."""
    folder, _ = trained
    scores = []
    for length in (1, 8, 64):
        finished = eval_forked(
            *(corpus, folder / "checkpoint_best.pt", "--batch-size", 40, "--tokens-per-sample", length),
            *("--model-overrides", "{'context_length': 1000}"),
        )
        assert finished.code == 0, finished.output[-2000:]
        scores.append(bits(finished))
    assert max(scores) - min(scores) < 2e-4


def test_context_window_makes_many_lanes_score_like_one(trained, corpus):
    folder, _ = trained
    common = (corpus, folder / "checkpoint_best.pt", "--tokens-per-sample", 32)
    one = bits(eval_forked(*common, "--batch-size", 1))
    cold = bits(eval_forked(*common, "--batch-size", 20))
    warm = bits(eval_forked(*common, "--batch-size", 20, "--context-window", 150))
    assert warm == pytest.approx(one, abs=1e-3)
    assert abs(cold - one) > abs(warm - one)


def test_shards_of_evaluation_add_up_to_the_file(trained, corpus):
    folder, _ = trained
    counts, total = [], 0.0
    for shard in range(3):
        finished = eval_forked(
            *(corpus, folder / "checkpoint_best.pt", "--tokens-per-sample", 32, "--batch-size", 2),
            *("--num-shards", 3, "--shard-id", shard),
        )
        counts.append(evaluated(finished))
        total += bits(finished) * counts[-1]
    whole = eval_forked(corpus, folder / "checkpoint_best.pt", "--tokens-per-sample", 32, "--batch-size", 6)
    assert sum(counts) == TEST_BYTES
    assert total / TEST_BYTES == pytest.approx(bits(whole), abs=2e-4)


def test_evaluation_stays_in_one_process(trained, corpus):
    """With several fairseq prints the figure of a part of the file."""
    folder, _ = trained
    common = (corpus, folder / "checkpoint_best.pt", "--tokens-per-sample", 32, "--batch-size", 6)
    finished = eval_forked(*common, "--distributed-world-size", 2)
    assert evaluated(finished) == TEST_BYTES and bits(finished) == bits(eval_forked(*common))


def test_validate_agrees_with_training_and_with_evaluation(trained, corpus):
    folder, training = trained
    finished = fairseq(
        *("validate", corpus, "--user-dir", USER_DIR, "--task", "byte_level_lm", "--cpu", "--batch-size", 4),
        *("--path", folder / "checkpoint_best.pt", "--valid-subset", "valid,test", "--tokens-per-sample", 32),
        *("--log-format", "simple"),
    )
    assert finished.code == 0, finished.output[-2000:]
    valid = re.search(r"bpb ([\d.]+)", finished.line("valid on 'valid' subset")).group(1)
    assert valid == re.search(r"bpb ([\d.]+)", training.line("valid on 'valid' subset")).group(1)
    test = float(re.search(r"bpb ([\d.]+)", finished.line("valid on 'test' subset")).group(1))
    scored = eval_forked(corpus, folder / "checkpoint_best.pt", "--tokens-per-sample", 32, "--batch-size", 4)
    assert test == pytest.approx(bits(scored), abs=2e-4)


def test_validation_in_mid_epoch_leaves_training_alone(corpus, tmp_path):
    """Same curve with and without validations between; each validation of the same model starts empty."""
    steps = ("--max-update", 12, "--warmup-updates", 3, "--log-interval", 1, "--dropout", 0)
    plain = train_forked(corpus, tmp_path / "a", *steps)
    often = train_forked(corpus, tmp_path / "b", *steps, "--validate-interval-updates", 3)
    curves = [re.findall(r"train_inner .*?bpb=([\d.]+)", run.output) for run in (plain, often)]
    assert len(curves[0]) == 12 and curves[0] == curves[1]
    assert len(re.findall("valid on 'valid'", often.output)) == 4
    last = [re.findall(r"valid on .*?bpb ([\d.]+)", run.output)[-1] for run in (plain, often)]
    assert last[0] == last[1]


def test_epochs_start_empty_and_differ_only_in_their_chunks(corpus, tmp_path):
    """With a learning rate of almost 0 and equal chunks, two epochs print the same losses."""
    short = corpus.parent / "short"
    short.mkdir(exist_ok=True)
    for split in ("train", "valid"):
        (short / split).write_bytes((corpus / "valid").read_bytes()[:700])
    finished = train_forked(
        *(short, tmp_path, "--lr", 1e-12, "--max-update", 12, "--log-interval", 1, "--dropout", 0),
        *("--no-bptt-jitter", "--disable-validation", "--no-save"),
    )
    curve = re.findall(r"train_inner .*?bpb=([\d.]+)", finished.output)
    assert len(curve) == 12 and curve[:6] == curve[6:]


def test_shards_of_a_corpus_are_read_one_an_epoch(corpus, tmp_path):
    shards = []
    for number, text in enumerate((b"abcd" * 100, b"wxyz" * 100)):
        shard = tmp_path / f"shard{number}"
        shard.mkdir()
        for split in ("train", "valid"):
            (shard / split).write_bytes(text)
        shards.append(str(shard))
    finished = train_forked(
        *(":".join(shards), tmp_path / "out", "--max-epoch", 2, "--max-update", 100, "--lr", 0.05),
        *("--log-interval", 1, "--no-save", "--tokens-per-sample", 50),
    )
    assert finished.code == 0, finished.output[-2000:]
    curve = [float(value) for value in re.findall(r"train_inner .*?bpb=([\d.]+)", finished.output)]
    half = len(curve) // 2
    assert curve[half] > curve[half - 1] + 1, "the second epoch's text is new to the model"


def test_hydra_train_builds_the_same_run(corpus, tmp_path):
    finished = fairseq(
        *("hydra-train", "--config-dir", "examples/enwik8", "--config-name", "sha_rnn", f"task.data={corpus}"),
        *(
            f"common.user_dir={USER_DIR}",
            "common.cpu=true",
            "common.fp16=false",
            "distributed_training.distributed_world_size=1",
        ),
        *("model.decoder_embed_dim=32", "model.boom_dim=64", "model.context_length=96", "task.tokens_per_sample=32"),
        *("dataset.batch_size=4", "optimization.max_update=3", f"checkpoint.save_dir={tmp_path}/ck"),
        *("common.log_interval=1", "common.log_format=simple", f"hydra.run.dir={tmp_path}"),
    )
    assert finished.code == 0, finished.output[-3000:]
    assert len(re.findall(r"train_inner", finished.output)) == 3
    assert "bpb" in finished.line("valid on")
    checkpoint = torch.load(tmp_path / "ck" / "checkpoint_last.pt", weights_only=False)
    assert checkpoint["cfg"]["task"]["_name"] == "byte_level_lm"
    assert checkpoint["cfg"]["optimizer"]["min_trust"] == 0.25


@pytest.mark.parametrize(
    "arch",
    [
        "transformer_lm --decoder-embed-dim 32 --decoder-ffn-embed-dim 64 --decoder-layers 1"
        " --decoder-attention-heads 2 --share-decoder-input-output-embed",
        "lstm_lm --decoder-embed-dim 32 --decoder-hidden-size 32 --decoder-out-embed-dim 32 --decoder-layers 1",
    ],
    ids=["transformer_lm", "lstm_lm"],
)
def test_fairseqs_stateless_models_train_and_evaluate(corpus, tmp_path, arch):
    finished = train_forked(
        *(corpus, tmp_path, "--max-update", 4, "--log-interval", 1),
        model=["--arch", *arch.split()],
        recipe="--optimizer adam --lr 1e-3 --clip-norm 0.25".split(),
    )
    assert finished.code == 0, finished.output[-3000:]
    assert "bpb" in finished.line("valid on")
    checkpoint = tmp_path / "checkpoint_last.pt"
    blocks = eval_forked(corpus, checkpoint, "--tokens-per-sample", 32)
    assert blocks.code == 0, blocks.output[-3000:]
    assert evaluated(blocks) == TEST_BYTES
    windows = eval_forked(corpus, checkpoint, "--tokens-per-sample", 32, "--context-window", 24, "--batch-size", 7)
    assert evaluated(windows) == TEST_BYTES
    assert 0 < abs(bits(windows) - bits(blocks)) < 0.5
    checked = run_forked(
        *("validate", corpus, "--user-dir", USER_DIR, "--task", "byte_level_lm", "--cpu", "--batch-size", 7),
        *("--path", checkpoint, "--valid-subset", "test", "--tokens-per-sample", 32, "--log-format", "simple"),
    )
    assert float(re.search(r"bpb ([\d.]+)", checked.line("valid on")).group(1)) == pytest.approx(bits(blocks), abs=2e-4)


def test_second_phase_at_half_the_rate_from_the_best_checkpoint(trained, corpus, tmp_path):
    """The recipe's second pass: moments and warm-up start over."""
    folder, _ = trained
    finished = train_forked(
        *(corpus, tmp_path, "--finetune-from-model", folder / "checkpoint_best.pt", "--lr", 2.5e-3),
        *("--warmup-updates", 2, "--max-update", 4, "--log-interval", 1),
    )
    assert finished.code == 0, finished.output[-2000:]
    rates = [float(value) for value in re.findall(r"train_inner .*? lr=([\d.e-]+)", finished.output)]
    assert rates == pytest.approx([2.5e-3] * 4)
    first = float(re.search(r"train_inner .*?bpb=([\d.]+)", finished.output).group(1))
    assert first < 7, "it starts from the trained parameters"


def test_bits_per_byte_do_not_depend_on_how_the_loss_is_averaged(corpus, tmp_path):
    finished = train_forked(corpus, tmp_path, "--sentence-avg", "--log-interval", 1)
    line = finished.line("train_inner")
    bits, nll = (float(re.search(rf"{name}=([\d.]+)", line).group(1)) for name in ("bpb", "nll_loss"))
    assert bits == pytest.approx(nll, abs=6e-4) and bits < 9


def test_an_interrupted_run_goes_on(corpus, tmp_path):
    for updates in (4, 8):
        finished = train_forked(corpus, tmp_path, "--max-update", updates, "--log-interval", 1)
        assert finished.code == 0, finished.output[-2000:]
    assert re.findall(r"num_updates=(\d+)", finished.output) == ["5", "6", "7", "8"]


def test_several_models_are_scored_together(trained, corpus):
    folder, _ = trained
    pair = f"{folder / 'checkpoint_best.pt'}"
    from fairseq import checkpoint_utils

    register()

    models, _, task = checkpoint_utils.load_model_ensemble_and_task([pair, pair], {"data": str(corpus)})
    task.cfg.tokens_per_sample = 32
    task.load_dataset("test")
    from fairseq_cli.eval_lm import eval_lm as score

    def loss(models):
        batches = task.eval_lm_dataloader(task.dataset("test"), batch_size=4)
        return score(models, task.source_dictionary, batches)["loss"]

    assert math.isclose(loss(models), loss(models[:1]), abs_tol=1e-5)


def test_plain_fp16_keeps_lambs_norms_per_tensor(corpus, tmp_path):
    """Without the patch fairseq flattens (and needs a GPU to do so)."""
    finished = train_forked(corpus, tmp_path, "--fp16", "--fp16-init-scale", 4)
    assert finished.code == 0, finished.output[-3000:]
    assert "lamb_min_trust takes norms of each tensor" in finished.output


def test_other_criterions_and_schedulers_of_fairseq_work(corpus, tmp_path):
    finished = train_forked(
        *(corpus, tmp_path, "--criterion", "label_smoothed_cross_entropy", "--label-smoothing", 0.1),
        *("--lr-scheduler", "cosine", "--max-update", 3, "--log-interval", 1),
    )
    if finished.code != 0:  # fairseq's cosine needs to know its end
        assert "max-update" in finished.output, finished.output[-2000:]
    line = finished.line("valid on")
    assert float(re.search(r"bpb ([\d.]+)", line).group(1)) == pytest.approx(
        float(re.search(r"nll_loss ([\d.]+)", line).group(1)), abs=6e-4
    )


def test_micro_model_is_the_same_everywhere():
    from tests.integration.forked import MICRO_MODEL

    assert MICRO_MODEL == MICRO


def test_train_command_line_starts_in_a_process_of_its_own(corpus, tmp_path):
    finished = train(corpus, tmp_path, "--max-update", 1, "--arch", "sha_rnn_tiny", model=[], cwd=tmp_path)
    assert finished.code == 0, finished.output[-2000:]
    assert "num. shared model params: 879,876" in finished.output
