from types import SimpleNamespace

import pytest
import torch

from experiments.comparison import evaluation, generation
from experiments.comparison.evaluation import Allowance, fit_context, largest_context
from experiments.comparison.generation import StepwiseDecoder
from experiments.comparison.presets import choose
from experiments.harness.folder import write_json
from fairseq_sharnn.data.byte_dictionary import ByteDictionary

PRESET = choose("cpu", window=256)


@pytest.mark.parametrize(
    "blocks, allowed, context",
    [(10.0, 10.0, 0), (12.0, 10.0, 0), (5.0, 10.0, 128), (2.5, 10.0, 192), (0.001, 10.0, 248), (0.0, 10.0, 0)],
)
def test_the_context_that_a_time_affords(blocks, allowed, context):
    """256 / (256 - w) times the time of plain blocks, in steps of 8."""
    assert largest_context(256, blocks, allowed) == context


@pytest.mark.parametrize("window, number", [(64, 16), (128, 8), (256, 8), (1024, 8)])
def test_a_batch_of_windows_has_no_fewer_bytes_than_sha_rnns_lanes(window, number):
    assert (PRESET.eval_lanes, PRESET.eval_chunk) == (8, 128)
    assert evaluation.windows_at_once(PRESET, window) == number


def measured(
    monkeypatch, tmp_path, seconds_of_context, family="transformer", reference="sha_rnn", allowed=10.0, seeds=(0.0,)
):
    """Run fit_context with evaluations that take `seconds_of_context(context)`, and so much more for each seed's run."""
    tried = []
    window = {"transformer": 256, "lstm": 1024}[family]

    def evaluate(run, mode, options, processes):
        context = int(mode.rpartition("-")[2])
        assert options == evaluation.window_options(PRESET, window, context)
        tried.append(context)
        seconds = seconds_of_context(context)
        return {"reason": "out of memory"} if seconds is None else {"reason": None, "seconds": seconds + run.more}

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    job = SimpleNamespace(contestant=SimpleNamespace(family=family))
    runs = [SimpleNamespace(preset=PRESET, job=job, more=more) for more in seeds]
    return fit_context(runs, 5.0, Allowance(reference, allowed), None, tmp_path / "window.json"), tried


def test_a_first_guess_that_holds_is_kept(monkeypatch, tmp_path):
    found, tried = measured(monkeypatch, tmp_path, lambda context: 9.9)
    assert (found["context"], found["window"]) == (128, 256) and tried == [128]
    again, tried = measured(monkeypatch, tmp_path, lambda context: 0.0)
    assert again == found and tried == []


def test_what_counts_is_the_mean_over_seeds(monkeypatch, tmp_path):
    found, tried = measured(monkeypatch, tmp_path, lambda context: 9.9, seeds=(0.0, 3.0, -3.0))
    assert (found["context"], tried) == (128, [128] * 3)
    assert found["measured"] == [{"context": 128, "seconds": pytest.approx(9.9)}]
    found, _ = measured(monkeypatch, tmp_path / "slow", lambda context: 9.9, seeds=(0.0, 3.0, 0.0))
    assert found["context"] < 128


def test_what_another_allowance_gave_is_looked_for_again(monkeypatch, tmp_path):
    measured(monkeypatch, tmp_path, lambda context: 9.9)
    found, tried = measured(monkeypatch, tmp_path, lambda context: 9.8, reference="sha_rnn_full")
    assert (found["reference"], tried) == ("sha_rnn_full", [128])
    found, tried = measured(monkeypatch, tmp_path, lambda context: 7.9, reference="sha_rnn_full", allowed=8.0)
    assert found["allowed_seconds"] == 8.0 and tried[0] == 96


def test_a_window_that_fails_says_why(monkeypatch, tmp_path):
    found, _ = measured(monkeypatch, tmp_path, lambda context: None)
    assert (found["context"], found["reason"]) == (0, "window-128: out of memory")
    found, tried = measured(monkeypatch, tmp_path, lambda context: 9.9)  # once its record is deleted, it is tried again
    assert (found["context"], found["reason"], tried) == (128, None, [128])


def test_records_without_a_checkpoint_are_all_there_is(tmp_path):
    """No command is started (there are no processes to start it with), and nothing is kept of the attempt."""
    run = SimpleNamespace(folder=tmp_path, checkpoint=tmp_path / "checkpoint_best.pt")
    assert evaluation.evaluate(run, "half", [], None)["reason"] == f"{run.checkpoint} is gone"
    assert generation.generation_speed(run, None)["reason"] == f"{run.checkpoint} is gone"
    assert list(tmp_path.iterdir()) == []
    write_json(tmp_path / "evaluation-half.json", {"bpb": 2.0})
    assert evaluation.evaluate(run, "half", [], None) == {"bpb": 2.0}


def test_one_that_is_faster_than_thought_is_widened_once(monkeypatch, tmp_path):
    found, tried = measured(monkeypatch, tmp_path, lambda context: 3.0 / (1 - context / 256))
    assert tried[0] == 128 and len(tried) == 2 and found["context"] == tried[1] > 160
    found, tried = measured(monkeypatch, tmp_path / "slow", lambda context: 6.0 if context == 128 else 99.0)
    assert len(tried) == 2 and tried[1] > 128 and found["context"] == 128


def test_a_window_that_costs_more_than_allowed_is_narrowed(monkeypatch, tmp_path):
    found, tried = measured(monkeypatch, tmp_path, lambda context: 6.0 / (1 - context / 256))
    assert tried[0] == 128 and len(tried) > 1 and tried == sorted(tried, reverse=True)
    assert 6.0 / (1 - found["context"] / 256) <= 10.0 and found["context"] > 64


def test_an_lstms_windows_are_longer_than_in_training(monkeypatch, tmp_path):
    found, _ = measured(monkeypatch, tmp_path, lambda context: 9.9, "lstm")
    assert (found["context"], found["window"]) == (512, 1024)


def test_none_that_fits_is_none(monkeypatch, tmp_path):
    found, tried = measured(monkeypatch, tmp_path, lambda context: 99.0)
    assert found["context"] == 0 and len(tried) <= 4


class Recorder(torch.nn.Module):
    """Stands for a Transformer: writes down which tokens it was shown at each step, as fairseq's decoders see them."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.calls = []

    def decoder(self, tokens, incremental_state):
        incremental_state["steps"] = incremental_state.get("steps", 0) + 1
        self.calls.append((tokens[0].tolist(), incremental_state["steps"]))
        return (torch.zeros(1, tokens.size(1), 260),)


def test_decoding_slides_where_positions_end():
    model = Recorder()
    decoder = StepwiseDecoder(model, ByteDictionary(), window=6)
    for token in range(10, 20):
        decoder.step(token)
    assert all(len(tokens) <= 6 for tokens, _ in model.calls)
    assert all(steps == len(tokens) for tokens, steps in model.calls)  # every position is fed once, in order
    assert model.calls[0][0] == [ByteDictionary().eos()] and model.calls[-1][0][-1] == 19
    assert sum(steps == 1 for _, steps in model.calls) == 3  # the start, and two slides


def test_decoding_without_an_end():
    model = Recorder()
    decoder = StepwiseDecoder(model, ByteDictionary(), window=None)
    for token in range(20):
        decoder.step(token)
    assert [tokens for tokens, _ in model.calls] == [[token] for token in decoder.tokens]
    assert [steps for _, steps in model.calls] == list(range(1, 22))


def test_only_the_loop_over_bytes_is_timed(monkeypatch):
    """Each round goes on from the end of the prompt, which is read once, before."""
    model = Recorder()
    decoder = StepwiseDecoder(model, ByteDictionary(), window=None)
    clock = iter([0.0, 1.0, 10.0, 15.0])
    calls = []

    def now():
        calls.append(len(model.calls))
        return next(clock)

    monkeypatch.setattr(generation.time, "perf_counter", now)
    logits = generation.read_prompt(decoder, ByteDictionary(), b"prompt")
    seconds = [generation.seconds_to_write(decoder.fork(), logits, ByteDictionary(), 4) for _ in range(2)]
    assert seconds == [1.0, 5.0] and calls == [7, 11, 11, 15]
    assert [steps for _, steps in model.calls[7:]] == [8, 9, 10, 11] * 2 and len(decoder.tokens) == 7
