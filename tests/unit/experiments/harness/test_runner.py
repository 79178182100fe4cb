"""Steps are counted as done when they are done, whatever time they take, and as skipped when an earlier call did them."""

import io

from experiments.harness.pool import Task
from experiments.harness.progress import Progress, Steps, duration, total_seconds
from experiments.harness.runner import Runner

STEPS = {"a": Steps(4, 10.0, 2), "b": Steps(2, 5.0, 1)}


def runner():
    return Runner(Progress("work", STEPS, io.StringIO()))


def test_a_step_that_was_done_before_has_no_duration():
    """A quick step is not taken for one that an earlier call has done, nor the other way round."""
    made = runner()
    made.do_once({"quick": lambda: True, "done before": lambda: False}, "b", more=True)
    assert len(made.progress._durations["b"]) == 1 and made.progress.left("b") == 0
    assert made.progress.left("a") == 4


def test_nothing_is_left_of_a_kind_that_is_closed():
    made = runner()
    left = [3]

    def step():
        left[0] -= 1
        return True

    made.do([Task(lambda: "x", step, lambda: left[0])], "a", more=True)
    assert left == [0] and made.progress.left("a") == 1
    made.do([], "a")
    assert made.progress.left("a") == 0


def test_time_left_follows_what_was_measured():
    progress = Progress("work", STEPS, io.StringIO())
    assert progress.seconds_left() == total_seconds(STEPS) == 30.0 and progress.share_done() == 0.0
    progress.add_done("a", 20.0)
    assert progress.seconds_left() == 3 * 20 / 2 + 2 * 10  # b has no measurement: its estimate, doubled like that of a
    progress.set_left("b", 0)
    progress.skip("a", 5)
    assert progress.seconds_left() == 0.0 and progress.share_done() == 1.0


def test_the_line():
    progress = Progress("work", STEPS, io.StringIO())
    progress.show("a", ["x", "y"])
    progress.show("a", ["z"])  # half a minute later at the earliest
    progress.say("done")
    assert progress.stream.getvalue() == "work:   0%, 30 s left; a: x, y\ndone\n"
    assert [duration(seconds) for seconds in (45, 720, 12240)] == ["45 s", "12 min", "3.4 h"]
