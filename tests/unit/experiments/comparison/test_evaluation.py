import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from experiments.comparison.evaluation import evaluate, read_evaluations, windows_at_once
from experiments.comparison.preset_options import choose
from experiments.comparison.records import Evaluation
from experiments.harness.processes import Ended
from experiments.harness.records import write_record

PRESET = choose("cpu", window=256)


@pytest.mark.parametrize("window, number", [(64, 16), (128, 8), (256, 8), (1024, 8)])
def test_a_batch_of_windows_has_no_fewer_bytes_than_sha_rnns_lanes(window, number):
    assert (PRESET.eval_lanes, PRESET.eval_chunk) == (8, 128)
    assert windows_at_once(PRESET, window) == number


def make_run(folder):
    contestant = SimpleNamespace(environment=(("FAIRSEQ_SHARNN_KERNELS", "0"),), user_dir="fairseq_sharnn")
    return SimpleNamespace(
        folder=folder,
        checkpoint=folder / "checkpoint_best.pt",
        data=folder / "data",
        preset=PRESET,
        job=SimpleNamespace(contestant=contestant),
    )


class FakeEvaluation:
    """Writes what fairseq-eval-lm prints."""

    def __init__(self, text, code=0):
        self.text, self.code, self.calls, self.environment = text, code, [], {"OMP_NUM_THREADS": "1"}

    def run(self, command, log, environment):
        self.calls.append((command, environment))
        log.write_text(self.text)
        return Ended(self.code, 5, 1.0, 1.0)


def test_an_evaluation_is_made_once_and_recorded(tmp_path):
    run = make_run(tmp_path)
    run.checkpoint.write_text("")
    text = "1.0 Evaluated 4,200 tokens in 2.0s (2100.00 tokens/s)\n1.0 Loss (base 2): 2.5, Perplexity: 5.66\n"
    processes = FakeEvaluation(text)
    assert evaluate(run, "half", ["--context-window", "128"], processes) is True
    assert evaluate(run, "half", ["--context-window", "128"], processes) is False
    ((command, environment),) = processes.calls
    assert environment == {"OMP_NUM_THREADS": "1", "FAIRSEQ_SHARNN_KERNELS": "0"} and command[-1] == "128"
    (record,) = read_evaluations(run, ["blocks", "half"])
    assert (record.mode, record.bpb, record.tokens, record.seconds) == ("half", 2.5, 4200, 2.0)
    assert (record.bytes_per_second, record.peak_memory, record.reason) == (2100.0, 5, None)


def test_on_a_gpu_float32_is_the_same_for_every_model(tmp_path):
    """torch allows TF32 in cuDNN's LSTMs and not in matrix products."""
    run = make_run(tmp_path)
    run.checkpoint.write_text("")
    run.preset = choose("gpu")
    processes = FakeEvaluation("")
    evaluate(run, "streaming", [], processes)
    ((_, environment),) = processes.calls
    assert environment["TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"] == "1"
    script = "import torch; print(torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)"
    switches = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    assert switches.stdout.split() == [b"True", b"True"]


def test_an_evaluation_that_fails_is_recorded_with_its_reason(tmp_path):
    run = make_run(tmp_path)
    run.checkpoint.write_text("")
    assert evaluate(run, "blocks", [], FakeEvaluation("1.0 RuntimeError: out of memory\n", code=1)) is True
    (record,) = read_evaluations(run, ["blocks"])
    assert (record.reason, record.bpb) == ("RuntimeError: out of memory", None)


def test_without_a_checkpoint_only_the_record_is_read(tmp_path):
    """No command is started (there are no processes to start it with), and nothing is recorded of the attempt."""
    run = make_run(tmp_path)
    assert evaluate(run, "half", [], None) is False
    assert list(tmp_path.iterdir()) == [] and read_evaluations(run, ["half"]) == []
    write_record(tmp_path / "evaluation-half.json", Evaluation("half", bpb=2.0))
    assert evaluate(run, "half", [], None) is False
    assert read_evaluations(run, ["half"]) == [Evaluation("half", bpb=2.0)]
