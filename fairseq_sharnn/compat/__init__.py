"""The only place that patches fairseq: each patch with its reason, each with a test that fails without it.

Every patch replaces a function of fairseq by one that calls it and changes one thing. All supported versions (fairseq
0.12.2, fairseq-fixed 0.12.3.1, ve-fairseq 0.12.3) take the same patches. Tests: tests/integration/test_compat.py and
those named at each patch.
"""

from fairseq_sharnn.compat import (
    busy_cores,
    checkpoints,
    copying,
    early_checks,
    gpu,
    losses,
    resuming,
    schedules,
    starting,
    training,
)


def apply() -> None:
    """Apply every patch, once in a process."""
    gpu.use_expandable_segments()
    gpu.start_in_one_line()
    gpu.pin_for_gpus_only()
    busy_cores.hint_at_busy_cores()
    checkpoints.load_safely()
    checkpoints.write_atomically()
    checkpoints.gather_streams()
    checkpoints.broadcast_checkpoints()
    checkpoints.allow_namespace()
    resuming.keep_decisions()
    resuming.leave_finished_runs_alone()
    resuming.count_updates_without_optimizer_state()
    schedules.keep_plateaus()
    schedules.keep_loss_scales()
    schedules.keep_averages()
    schedules.name_schedulers_options()
    starting.check_and_launch()
    early_checks.check_profiler_and_splits()
    starting.end_generation_in_one_line()
    starting.end_process_groups_at_exit()
    starting.silence_warnings()
    training.never_flatten_lamb()
    training.unscale_gradients_once()
    training.explain_failed_updates()
    training.check_best_metric()
    losses.count_every_target()
    copying.let_tasks_be_copied()
    losses.learn_from_what_is_scored()
