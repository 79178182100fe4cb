"""Patches that make a resumed run decide as the run that was not stopped. The table of this state: docs/resume.md."""

import logging
import math
import os
import re
from typing import Any, Dict, Optional

from fairseq import checkpoint_utils
from fairseq.trainer import Trainer

from fairseq_sharnn.compat.patching import patch, replaced
from fairseq_sharnn.errors import UsageError

logger = logging.getLogger(__name__)

KEY = "fairseq_sharnn"  # of extra_state: plain numbers and strings, which fairseq itself ignores


def keep_decisions() -> None:
    """fairseq counts `--patience` in an attribute of a function, which no checkpoint holds: a resumed run waits anew. It
    keeps the best validation loss when the validation text has become another one. And the validation that a stop by
    `--max-update` adds counts as one that the schedule asked for. Test: test_resume_decisions.py.
    """
    from fairseq_cli import train

    counter = train.should_stop_early  # fairseq counts in its attributes

    @patch(train, "validate_and_save")
    def validate_and_save(original, cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch):
        due = _validation_is_due(cfg, trainer.get_num_updates(), epoch_itr.epoch, end_of_epoch)
        trainer.validation_is_due = due
        counts = counter if due else (lambda cfg, valid_loss: False)
        with replaced(train, "should_stop_early", counts):
            return original(cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch)

    @patch(Trainer, "save_checkpoint")
    def save_checkpoint(original, self, filename, extra_state):
        kept = {"validation_is_due": bool(getattr(self, "validation_is_due", True)), "valid": _valid_text(self)}
        if hasattr(counter, "best"):
            kept.update(best=float(counter.best), runs_without_a_better=int(counter.num_runs))
        return original(self, filename, {**extra_state, KEY: kept})

    @patch(Trainer, "load_checkpoint")
    def load_checkpoint(original, self, filename, *args, **kwargs):
        _forget_best(counter)  # of an earlier run in this process
        extra_state = original(self, filename, *args, **kwargs)
        if extra_state is None:
            return extra_state
        kept, resets = extra_state.get(KEY, {}), _resets(args, kwargs)
        if resets["reset_optimizer"] or resets["reset_meters"]:
            _put_best_aside(self)
        elif kept.get("valid") not in (None, _valid_text(self)):
            logger.info("the validation text has changed since the checkpoint: the best loss and --patience begin anew")
            extra_state.pop("best", None)
            _put_best_aside(self)
        elif "best" in kept:
            counter.best = kept["best"]
            counter.num_runs = kept["runs_without_a_better"]
        return extra_state

    @patch(checkpoint_utils, "load_checkpoint")
    def load_and_begin(original, cfg, trainer, **kwargs):
        extra_state, epoch_itr = original(cfg, trainer, **kwargs)
        if epoch_itr.iterations_in_epoch > 0:  # --stop-min-lr is looked at when an epoch begins, and here none does
            trainer.get_lr = lambda: (vars(trainer).pop("get_lr"), math.inf)[1]
        return extra_state, epoch_itr


def leave_finished_runs_alone() -> None:
    """The same command after the end of `--max-update`, `--patience` or `--stop-time-hours` makes one more update, or
    epochs of them, and overwrites the checkpoints. Test: test_resume_decisions.py.
    """
    from fairseq_cli import train

    @patch(train, "train")
    def train_epoch(original, cfg, trainer, task, epoch_itr):
        reason = _finished(cfg, trainer, train.should_stop_early)
        if reason is not None:
            logger.info(f"nothing is left to train: {reason}")
            return [None], True
        return original(cfg, trainer, task, epoch_itr)


def _finished(cfg, trainer, counter) -> Optional[str]:
    """Why a run has ended before its next update, if it has."""
    updates, most, hours = trainer.get_num_updates(), cfg.optimization.max_update, cfg.optimization.stop_time_hours
    if most and updates >= most:
        return f"the checkpoint is at update {updates:,}, and --max-update is {most:,}"
    patience, runs = cfg.checkpoint.patience, getattr(counter, "num_runs", 0)
    if 0 < patience <= runs:
        return f"{runs} validations were not better than the best one, and --patience is {patience}"
    if hours > 0 and trainer.cumulative_training_time() / 3600 > hours:
        return f"it has trained for longer than the {hours:g} hours of --stop-time-hours"
    return None


def count_updates_without_optimizer_state() -> None:
    """After `--no-save-optimizer-state` fairseq resumes in the middle of the text, but counts updates, and with them the
    warm-up and the schedule of the learning rate, from 0. And a checkpoint of another `--lr-scheduler` is a KeyError.
    Test: test_resume_decisions.py.
    """

    @patch(Trainer, "load_checkpoint")
    def load_checkpoint(original, self, filename, *args, **kwargs):
        try:
            extra_state = original(self, filename, *args, **kwargs)
        except KeyError as error:
            raise UsageError(
                f"checkpoint {filename} was trained with another --lr-scheduler (its state has no {error}): use that one, "
                "or begin the schedule anew with --reset-lr-scheduler"
            ) from error
        last = (self._optim_history or [{}])[-1]
        resets = _resets(args, kwargs)
        if extra_state is None or resets["reset_optimizer"] or self.get_num_updates() >= last.get("num_updates", 0):
            return extra_state
        if not resets["reset_lr_scheduler"]:
            self.lr_scheduler.load_state_dict(last["lr_scheduler_state"])
        self.set_num_updates(last["num_updates"])
        self.lr_step(extra_state["train_iterator"]["epoch"])
        logger.warning(
            f"checkpoint {filename} has no optimizer state (--no-save-optimizer-state): updates count on from "
            f"{last['num_updates']:,}, but the optimizer's moments begin at zero, so this is not the run that was stopped"
        )
        return extra_state


def _resets(args: tuple, kwargs: Dict[str, Any]) -> Dict[str, bool]:
    """What `Trainer.load_checkpoint(filename, ...)` is asked to leave out of a checkpoint."""
    names = ("reset_optimizer", "reset_lr_scheduler", "optimizer_overrides", "reset_meters")
    given = {**dict(zip(names, args)), **kwargs}
    return {name: bool(given.get(name, False)) for name in names}


def _validation_is_due(cfg, updates: int, epoch: int, end_of_epoch: bool) -> bool:
    """Whether the schedule asks for a validation here, as in fairseq's `validate_and_save`, stopping left aside."""
    dataset, saving = cfg.dataset, cfg.checkpoint.save_interval_updates
    every = dataset.validate_interval_updates
    after = updates >= dataset.validate_after_updates
    at_end = end_of_epoch and epoch % dataset.validate_interval == 0
    with_checkpoint = not end_of_epoch and saving > 0 and updates > 0 and updates % saving == 0
    return after and (at_end or with_checkpoint or (every > 0 and updates > 0 and updates % every == 0))


def _valid_text(trainer) -> Optional[str]:
    """Fingerprint of the first validation split, whose loss decides; None without one."""
    dataset = trainer.task.datasets.get(trainer.cfg.dataset.valid_subset.split(",")[0])
    return dataset.fingerprint() if hasattr(dataset, "fingerprint") else None


def _forget_best(counter) -> None:
    for name in ("best", "num_runs"):
        vars(counter).pop(name, None)
    vars(checkpoint_utils.save_checkpoint).pop("best", None)


def _put_best_aside(trainer) -> None:
    """Files of `--keep-best-checkpoints` carry losses that are not to be compared with any more: `old.` before their names.

    fairseq reads the losses out of the names.
    """
    folder = trainer.cfg.checkpoint.save_dir
    if not trainer.is_data_parallel_master or not os.path.isdir(folder):
        return
    for name in sorted(os.listdir(folder)):
        if re.fullmatch(r"checkpoint\.best_.*\.pt", name):
            os.replace(os.path.join(folder, name), os.path.join(folder, f"old.{name}"))
            logger.info(f"{name} is of an earlier best loss: it is now old.{name}")
