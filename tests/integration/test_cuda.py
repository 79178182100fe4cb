"""What only a GPU can show, through fairseq's commands: SHARNN_TEST_CUDA=1 scripts/test.sh -n 0 -m cuda."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fairseq_sharnn.models.sha_rnn import SHARNNLanguageModel
from tests.conftest import MICRO, RECIPE, USER_DIR, eval_lm, fairseq, free_port, write_corpus

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
# float32 of a GPU is compared with that of the CPU, so its products must not use TF32
EXACT = {"CUDA_VISIBLE_DEVICES": "0", "NVIDIA_TF32_OVERRIDE": "0"}


@pytest.fixture(autouse=True)
def without_tf32(monkeypatch):
    for switches in (torch.backends.cuda.matmul, torch.backends.cudnn):
        monkeypatch.setattr(switches, "allow_tf32", False)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("small"), 12000, 2000, 2000)


def train(data, save_dir, updates, *options, gpus="0", lanes=4):
    """Bits per byte by update, as printed."""
    finished = fairseq(
        *("train", data, "--user-dir", USER_DIR, "--task", "byte_level_lm", *MICRO, *RECIPE, "--warmup-updates", 3),
        *("--tokens-per-sample", 32, "--batch-size", lanes, "--log-format", "simple", "--log-interval", 1),
        *("--max-update", updates, "--save-dir", save_dir, *options),
        env={**EXACT, "CUDA_VISIBLE_DEVICES": gpus},
    )
    assert finished.code == 0, finished.output[-3000:]
    found = re.findall(r"train_inner.*?bpb=([\d.]+).*?num_updates=(\d+)", finished.output)
    return {int(update): float(bits) for bits, update in found}


@pytest.mark.parametrize(
    "options",
    [
        *((), ("--fp16",), ("--bf16",), ("--amp",), ("--checkpoint-activations", "--fp16")),
        *(("--fp16", "--dropconnect", 0.2), ("--fp16", "--num-workers", 2)),
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_a_run_goes_on_where_it_stopped(small, tmp_path, options):
    """With dropout, whose masks follow the update; sums on a GPU may differ in their last bits."""
    options = (*options, "--dropout", 0.1)
    whole = train(small, tmp_path / "whole", 40, *options)
    assert whole[40] < whole[1] - 1.0
    train(small, tmp_path / "broken", 30, *options)
    resumed = train(small, tmp_path / "broken", 40, *options)
    assert resumed == pytest.approx({update: whole[update] for update in range(31, 41)}, abs=0.02)


def test_checkpointed_activations_give_the_same_run(small, tmp_path):
    """The masks that the backward pass draws again are the forward pass's."""
    kept = train(small, tmp_path / "kept", 30, "--dropout", 0.3)
    assert train(small, tmp_path / "again", 30, "--dropout", 0.3, "--checkpoint-activations") == pytest.approx(
        kept, abs=0.02
    )


def test_evaluation_and_sampling_are_those_of_the_cpu(small, tmp_path):
    train(small, tmp_path, 60)
    checkpoint = tmp_path / "checkpoint_last.pt"
    options = ("--tokens-per-sample", 64, "--batch-size", 4)
    on_cpu = eval_lm(small, checkpoint, *options)
    command = ("eval-lm", small, "--user-dir", USER_DIR, "--task", "byte_level_lm", "--path", checkpoint)
    for half in ((), ("--fp16",)):
        on_gpu = fairseq(*command, "--gen-subset", "test", *options, *half, env=EXACT)
        found = [float(re.search(r"Loss \(base 2\): ([\d.]+)", each.output).group(1)) for each in (on_cpu, on_gpu)]
        assert found[1] == pytest.approx(found[0], abs=0.02), on_gpu.output[-2000:]
    model = SHARNNLanguageModel.from_pretrained(str(tmp_path), "checkpoint_last.pt")
    greedy = model.sample("The ", length=40, temperature=0)
    assert model.cuda().sample("The ", length=40, temperature=0) == greedy
    assert len(model.half().sample_bytes("The ", length=40, seed=1)) == 44


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("backend", ["c10d", "legacy_ddp"])
def test_two_gpus_follow_one_with_all_the_lanes(small, tmp_path, backend):
    options = ("--dropout", 0, "--ddp-backend", backend)
    one = train(small, tmp_path / "one", 30, *options)
    two = train(small, tmp_path / "two", 30, *options, gpus="0,1", lanes=2)
    assert two == pytest.approx(one, abs=0.02)
    assert train(small, tmp_path / "two", 40, *options, gpus="0,1", lanes=2).keys() == set(range(31, 41))


def test_two_processes_on_one_gpu_follow_one_with_all_the_lanes(small, tmp_path):
    """By gloo: NCCL refuses two processes on one GPU."""
    options = ("--dropout", 0, "--ddp-backend", "legacy_ddp")
    one = train(small, tmp_path / "one", 30, *options)
    address = f"tcp://localhost:{free_port()}"

    def worker(rank):
        return train(
            *(small, tmp_path / "two", 30, *options, "--distributed-world-size", 2, "--distributed-rank", rank),
            *("--distributed-init-method", address, "--distributed-no-spawn", "--distributed-backend", "gloo"),
            *("--device-id", 0),
            lanes=2,
        )

    with ThreadPoolExecutor(2) as pool:
        first, _ = pool.map(worker, range(2))
    assert first == pytest.approx(one, abs=0.02)


def test_training_says_what_runs_its_lstms(small, tmp_path):
    finished = fairseq(
        *("train", small, "--user-dir", USER_DIR, "--task", "byte_level_lm", *MICRO, *RECIPE, "--fp16", "--no-save"),
        *("--tokens-per-sample", 32, "--batch-size", 8, "--max-update", 2, "--log-format", "simple"),
        *("--save-dir", tmp_path),
        env=EXACT,
    )
    assert finished.code == 0, finished.output[-3000:]
    line = finished.line("the LSTMs (float16, D 32, 8 lanes) run on cuDNN's persistent small kernel")
    assert "multiprocessors" in line and "estimated memory" in line
