from types import SimpleNamespace

import pytest
import torch
from comparison import evaluation
from comparison.evaluation import fit_context, largest_context
from comparison.generation import StepwiseDecoder
from comparison.presets import choose

from fairseq_sharnn.data.byte_dictionary import ByteDictionary

PRESET = choose("cpu")


@pytest.mark.parametrize(
    "blocks, allowed, context",
    [(10.0, 10.0, 0), (12.0, 10.0, 0), (5.0, 10.0, 128), (2.5, 10.0, 192), (0.001, 10.0, 248), (0.0, 10.0, 0)],
)
def test_the_context_that_a_time_affords(blocks, allowed, context):
    """256 / (256 - w) times the time of plain blocks, in steps of 8."""
    assert largest_context(PRESET, blocks, allowed) == context


def measured(monkeypatch, tmp_path, seconds_of_context):
    """Run fit_context with evaluations that take `seconds_of_context(context)`."""
    tried = []

    def evaluate(run, mode, options, processes):
        context = int(mode.rpartition("-")[2])
        assert options == evaluation.window_options(PRESET, context)
        tried.append(context)
        return {"reason": None, "seconds": seconds_of_context(context)}

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    run = SimpleNamespace(preset=PRESET)
    return fit_context(run, 5.0, 10.0, None, tmp_path / "window.json"), tried


def test_a_first_guess_that_holds_is_kept(monkeypatch, tmp_path):
    found, tried = measured(monkeypatch, tmp_path, lambda context: 9.9)
    assert found["context"] == 128 and tried == [128]
    again, tried = measured(monkeypatch, tmp_path, lambda context: 0.0)
    assert again == found and tried == []


def test_a_window_that_costs_more_than_allowed_is_narrowed(monkeypatch, tmp_path):
    found, tried = measured(monkeypatch, tmp_path, lambda context: 6.0 / (1 - context / 256))
    assert tried[0] == 128 and len(tried) > 1 and tried == sorted(tried, reverse=True)
    assert 6.0 / (1 - found["context"] / 256) <= 10.0 and found["context"] > 64


def test_none_that_fits_is_none(monkeypatch, tmp_path):
    found, tried = measured(monkeypatch, tmp_path, lambda context: 99.0)
    assert found["context"] == 0 and len(tried) <= 3


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
    assert [len(tokens) for tokens, _ in model.calls] == list(range(1, 22))
