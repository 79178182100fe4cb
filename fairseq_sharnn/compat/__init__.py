"""The only place that patches fairseq: each patch with its reason, each with a test that fails without it.

Everything here replaces a function of fairseq by one that calls it and changes the one thing named. Both supported
versions (fairseq 0.12.2, fairseq-fixed 0.12.3.1) take the same patches. Tests: tests/integration/test_compat.py and
those named at each patch.
"""

from fairseq_sharnn.compat import checkpoints, losses, starting, training


def apply() -> None:
    """Apply every patch, once a process."""
    checkpoints.load_safely_and_in_one_line()
    checkpoints.are_replaced_whole()
    checkpoints.gather_streams()
    checkpoints.reach_every_worker()
    checkpoints.of_lstm_lm_load()
    starting.starts_as_asked()
    starting.generation_ends_in_one_line()
    starting.process_groups_end_before_the_interpreter()
    starting.no_warning_flood()
    training.lamb_is_never_flattened()
    training.failed_updates_say_where()
    training.best_metric_is_one_that_exists()
    losses.adaptive_loss_counts_every_target()
