"""The search for the context that fits, with evaluations that are not really made."""

from types import SimpleNamespace

import pytest

from experiments.comparison import windows
from experiments.comparison.evaluation import evaluation_path, window_options
from experiments.comparison.preset_options import choose
from experiments.comparison.records import Attempt, Evaluation, FittedContext
from experiments.comparison.windows import Allowance, Search, largest_context
from experiments.harness.records import read_record, write_record

PRESET = choose("cpu", window=256)


@pytest.mark.parametrize(
    "blocks, allowed, context",
    [(10.0, 10.0, 0), (12.0, 10.0, 0), (5.0, 10.0, 128), (2.5, 10.0, 192), (0.001, 10.0, 248), (0.0, 10.0, 0)],
)
def test_the_context_that_a_time_allows(blocks, allowed, context):
    """256 / (256 - w) times the time of plain blocks, in steps of 8."""
    assert largest_context(256, blocks, allowed) == context


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Searches with evaluations that take `seconds_of(context)`, and so much more for each seed's run.

    Returns what was found and the contexts that were tried; an attempt without seconds fails.
    """

    def measure(seconds_of, family="transformer", reference="sha_rnn", allowed=10.0, seeds=(0.0,), folder="a"):
        tried = []
        window = {"transformer": 256, "lstm": 1024}[family]

        def evaluate(run, mode, options, processes):
            context = int(mode.rpartition("-")[2])
            assert options == window_options(PRESET, window, context)
            tried.append(context)
            seconds = seconds_of(context)
            record = Evaluation(mode, reason="out of memory")
            if seconds is not None:
                record = Evaluation(mode, seconds=seconds + run.more)
            write_record(evaluation_path(run, mode), record)
            return True

        monkeypatch.setattr(windows, "evaluate", evaluate)
        job = SimpleNamespace(contestant=SimpleNamespace(family=family))
        runs = [
            SimpleNamespace(
                preset=PRESET, length=PRESET.window, job=job, more=more, folder=tmp_path / folder / str(number)
            )
            for number, more in enumerate(seeds)
        ]
        path = tmp_path / folder / "window.json"
        worked = Search(runs, Allowance(reference, allowed), None, path).run(5.0)
        assert worked == bool(tried)
        return read_record(FittedContext, path), tried

    return measure


def test_a_first_guess_that_holds_is_kept(measured):
    found, tried = measured(lambda context: 9.9)
    assert (found.context, found.window) == (128, 256) and tried == [128]
    again, tried = measured(lambda context: 0.0)
    assert again == found and tried == []


def test_what_counts_is_the_mean_over_seeds(measured):
    found, tried = measured(lambda context: 9.9, seeds=(0.0, 3.0, -3.0))
    assert (found.context, tried) == (128, [128] * 3)
    assert found.measured == [Attempt(128, pytest.approx(9.9))]
    found, _ = measured(lambda context: 9.9, seeds=(0.0, 3.0, 0.0), folder="slow")
    assert found.context < 128


def test_with_another_allowance_the_search_is_repeated(measured):
    measured(lambda context: 9.9)
    found, tried = measured(lambda context: 9.8, reference="sha_rnn_full")
    assert (found.reference, tried) == ("sha_rnn_full", [128])
    found, tried = measured(lambda context: 7.9, reference="sha_rnn_full", allowed=8.0)
    assert found.allowed_seconds == 8.0 and tried[0] == 96


def test_a_window_that_fails_says_why(measured):
    found, _ = measured(lambda context: None)
    assert (found.context, found.reason) == (0, "window-128: out of memory")
    found, tried = measured(lambda context: 9.9)  # when its record is deleted, it is tried again
    assert (found.context, found.reason, tried) == (128, None, [128])


def test_one_that_is_faster_than_estimated_is_widened_once(measured):
    found, tried = measured(lambda context: 3.0 / (1 - context / 256))
    assert tried[0] == 128 and len(tried) == 2 and found.context == tried[1] > 160
    found, tried = measured(lambda context: 6.0 if context == 128 else 99.0, folder="slow")
    assert len(tried) == 2 and tried[1] > 128 and found.context == 128


def test_a_window_that_costs_more_than_allowed_is_narrowed(measured):
    found, tried = measured(lambda context: 6.0 / (1 - context / 256))
    assert tried[0] == 128 and len(tried) > 1 and tried == sorted(tried, reverse=True)
    assert 6.0 / (1 - found.context / 256) <= 10.0 and found.context > 64


def test_an_lstms_windows_are_longer_than_in_training(measured):
    found, _ = measured(lambda context: 9.9, "lstm")
    assert (found.context, found.window) == (512, 1024)


def test_the_search_ends_if_none_fits(measured):
    found, tried = measured(lambda context: 99.0)
    assert found.context == 0 and len(tried) <= 4


def test_a_context_found_by_an_earlier_version_can_be_read(tmp_path):
    path = tmp_path / "window.json"
    path.write_text(
        '{"context": 128, "window": 256, "allowed_seconds": 9.0, "measured": [{"context": 128, "seconds": 8}]}'
    )
    assert read_record(FittedContext, path) == FittedContext(128, 256, None, 9.0, [Attempt(128, 8)], None)
