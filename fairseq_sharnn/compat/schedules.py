"""Patches that write the state of schedules into checkpoints, and that name their options where these do not fit."""

import ast
import logging
from typing import Any, Dict

from fairseq import checkpoint_utils
from fairseq.optim import lr_scheduler
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.optim.fp16_optimizer import _FP16OptimizerMixin, _MemoryEfficientFP16OptimizerMixin
from fairseq.optim.lr_scheduler.manual_lr_scheduler import ManualSchedule
from fairseq.optim.lr_scheduler.reduce_lr_on_plateau import ReduceLROnPlateauLRSchedule
from fairseq.trainer import Trainer

from fairseq_sharnn.compat.patching import patch, replaced
from fairseq_sharnn.compat.resuming import KEY
from fairseq_sharnn.errors import UsageError

logger = logging.getLogger(__name__)

_PLATEAU = ("num_bad_epochs", "cooldown_counter")
_SCALER = ("_iter", "_last_overflow_iter", "_last_rescale_iter", "_overflows_since_rescale")


def keep_plateaus() -> None:
    """`--lr-scheduler reduce_lr_on_plateau`: fairseq saves the best loss, but not for how many epochs it has stayed; and
    a checkpoint of an epoch's end is written before the epoch's loss reaches the schedule. Test: test_resume_decisions.py.
    """

    @patch(ReduceLROnPlateauLRSchedule, "state_dict")
    def state_dict(original, self) -> Dict[str, Any]:
        return {**original(self), **{name: getattr(self.lr_scheduler, name) for name in _PLATEAU}}

    @patch(ReduceLROnPlateauLRSchedule, "load_state_dict")
    def load_state_dict(original, self, state):
        original(self, state)
        for name in _PLATEAU:
            setattr(self.lr_scheduler, name, state.get(name, getattr(self.lr_scheduler, name)))

    @patch(Trainer, "load_checkpoint")
    def load_checkpoint(original, self, filename, *args, **kwargs):
        extra_state = original(self, filename, *args, **kwargs)
        if extra_state is None or self.get_num_updates() == 0:  # nothing loaded, or begun anew
            return extra_state
        iterator, loss = extra_state["train_iterator"], extra_state.get("val_loss")
        due = extra_state.get(KEY, {}).get("validation_is_due", True)
        plateau = isinstance(self.lr_scheduler, ReduceLROnPlateauLRSchedule)
        if plateau and due and loss is not None and iterator["iterations_in_epoch"] == 0:
            self.lr_step(iterator["epoch"] - 1, loss)
        return extra_state


def keep_loss_scales() -> None:
    """With `--fp16` fairseq saves the loss scale, but not how long it has held, which decides when it grows; with `--amp`
    it saves neither. Test: test_resume_decisions.py (--amp scales only on a GPU: not tested).
    """
    for mixin in (_FP16OptimizerMixin, _MemoryEfficientFP16OptimizerMixin):
        _keep_scaler(mixin)

    @patch(AMPOptimizer, "state_dict")
    def state_dict(original, self) -> Dict[str, Any]:
        return {**original(self), "grad_scaler": self.scaler.state_dict()}

    @patch(AMPOptimizer, "load_state_dict")
    def load_state_dict(original, self, state, optimizer_overrides=None):
        if state.get("grad_scaler"):
            self.scaler.load_state_dict(state["grad_scaler"])
        return original(self, state, optimizer_overrides)


def _keep_scaler(mixin) -> None:
    @patch(mixin, "state_dict")
    def state_dict(original, self) -> Dict[str, Any]:
        state = original(self)
        if self.scaler is not None:
            state["loss_scale_schedule"] = {name: int(getattr(self.scaler, name)) for name in _SCALER}
        return state

    @patch(mixin, "load_state_dict")
    def load_state_dict(original, self, state, optimizer_overrides=None):
        if self.scaler is not None:
            for name, value in state.get("loss_scale_schedule", {}).items():
                setattr(self.scaler, name, value)
        return original(self, state, optimizer_overrides)


def keep_averages() -> None:
    """`--store-ema` with `--ema-update-freq`: fairseq does not save how many updates have passed since the last one of the
    average. And where the checkpoint has no average yet, it looks for the model in a place that it has just emptied.
    Test: test_resume_decisions.py.
    """

    @patch(Trainer, "state_dict")
    def state_dict(original, self) -> Dict[str, Any]:
        state = original(self)
        if self.cfg.ema.store_ema:
            state["extra_state"]["ema_updates_waiting"] = int(getattr(self.ema, "update_freq_counter", 0))
        return state

    @patch(Trainer, "load_checkpoint")
    def load_checkpoint(original, self, filename, *args, **kwargs):
        if not self.cfg.ema.store_ema:
            return original(self, filename, *args, **kwargs)
        load = checkpoint_utils.load_checkpoint_to_cpu

        def load_with_average(path, *args, **kwargs):
            state = load(path, *args, **kwargs)
            if "ema" not in state["extra_state"]:
                logger.warning(
                    f"checkpoint {path} has no average of the weights: it begins with the weights themselves"
                )
                state["extra_state"]["ema"] = dict(state["model"])
            return state

        with replaced(checkpoint_utils, "load_checkpoint_to_cpu", load_with_average):
            extra_state = original(self, filename, *args, **kwargs)
        if extra_state is not None:
            self.ema.update_freq_counter = extra_state.get("ema_updates_waiting", 0)
        return extra_state


def name_schedulers_options() -> None:
    """Options that do not fit an --lr-scheduler end in fairseq's traceback, among them every --epoch2lr whose keys are
    numbers, as a dictionary of epochs is written. Test: test_bad_input.py, test_compat.py.
    """

    @patch(lr_scheduler, "build_lr_scheduler")
    def build_lr_scheduler(original, cfg, optimizer):
        try:
            return original(cfg, optimizer)
        except UsageError:
            raise
        except (AssertionError, ValueError, TypeError) as error:
            name = getattr(cfg, "_name", None) or getattr(cfg, "lr_scheduler", None)
            raise UsageError(f"--lr-scheduler {name} does not fit its options or the optimizer: {error}") from error

    @patch(ManualSchedule, "parse_manuallr_args")
    def parse_manuallr_args(original, self, text):
        option = "--update2lr" if hasattr(self, "epoch2lr") else "--epoch2lr"
        try:
            return original(self, repr({str(key): float(rate) for key, rate in ast.literal_eval(text).items()}))
        except (ValueError, SyntaxError, TypeError, AttributeError):
            example = "\"{1: 1e-3, '5-9': 5e-4}\""
            raise UsageError(f"{option} takes a dictionary of learning rates such as {example}, not {text}") from None
