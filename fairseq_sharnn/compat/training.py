"""Patches to fairseq's trainer and its optimizers."""

import logging

from fairseq.optim import OPTIMIZER_REGISTRY
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.optim.fp16_optimizer import FP16Optimizer
from fairseq.trainer import Trainer

from fairseq_sharnn.compat.gpu import is_out_of_memory
from fairseq_sharnn.compat.option_checks import refuse_flat_parameters
from fairseq_sharnn.compat.patching import patch
from fairseq_sharnn.errors import UsageError

logger = logging.getLogger(__name__)


def never_flatten_lamb() -> None:
    """`--fp16` flattens all parameters into one buffer, whose norm is not what LAMB needs. fairseq only refuses, after it
    has built the buffer. The patch: tensors stay apart where the optimizer declares that it takes no flat parameters.
    It also marks that the optimizer holds the master weights, which nothing else saves. Test: test_precision.py.
    """

    @patch(FP16Optimizer, "build_optimizer")
    def build_optimizer(original, cfg, params, **kwargs):
        name = cfg.optimizer if isinstance(cfg.optimizer, str) else getattr(cfg.optimizer, "_name", None)
        never_flat = getattr(OPTIMIZER_REGISTRY.get(name), "never_flat", False)
        if never_flat and not cfg.common.fp16_no_flatten_grads:
            logger.info(f"{name} takes norms of each tensor: as with --fp16-no-flatten-grads")
            cfg.common.fp16_no_flatten_grads = True
        optimizer = original(cfg, params, **kwargs)
        if never_flat:
            optimizer.fp32_optimizer.parameters_are_masters = True
        return optimizer

    @patch(Trainer, "_build_optimizer")
    def _build_optimizer(original, self):
        if getattr(OPTIMIZER_REGISTRY.get(self.cfg.optimizer._name), "never_flat", False):
            refuse_flat_parameters(self.cfg.distributed_training.ddp_backend)
        original(self)
        _tell_names(self)


def _tell_names(trainer) -> None:
    """Give the names of parameters to an optimizer that logs them: fairseq's see only tensors. Test: test_trust_log.py."""
    optimizer = trainer._optimizer
    for wrapper in ("fp32_optimizer", "wrapped_optimizer"):
        if not hasattr(optimizer, "watch_trust") and hasattr(optimizer, wrapper):
            optimizer = getattr(optimizer, wrapper)
    if hasattr(optimizer, "watch_trust") and trainer.is_data_parallel_master:
        names = [name for name, parameter in trainer.get_model().named_parameters() if parameter.requires_grad]
        optimizer.watch_trust(names, trainer.get_num_updates)


def unscale_gradients_once() -> None:
    """`--amp`: fairseq has the loss scaler unscale the gradients before it clips them, for torch's optimizer. Before the
    step the scaler unscales them again, for fairseq's optimizer around it. So every gradient arrives divided by the
    scale twice, which the epsilon of Adam or LAMB notices. The patch: both are one optimizer. Test: test_precision.py.
    """

    @patch(AMPOptimizer, "step")
    def step(original, self):
        if self.scaler.is_enabled():
            states = self.scaler._per_optimizer_states
            states[id(self.fp32_optimizer)] = states[id(self.optimizer)]
        original(self)


def explain_failed_updates() -> None:
    """fairseq drops the chunk of an update that runs out of memory and continues, which tears a stream. It does not say
    where a NaN came from. The patch: stop, and name the update, the chunk and the place. The last checkpoint is still
    good. Test: test_resume.py.
    """

    @patch(Trainer, "train_step")
    def train_step(original, self, samples, raise_oom=False):
        streams = [sample["net_input"].get("stream") for sample in samples if sample and "net_input" in sample]
        if not streams or streams[0] is None:
            return original(self, samples, raise_oom)
        place = (
            f"update {self.get_num_updates() + 1:,} (chunk {streams[0].index + 1:,} of the epoch, its first lane at "
            f"{streams[0].unit} {streams[0].first_position:,})"
        )
        advice = (
            "this update was not made and the checkpoints are as they were; resume from the last one (or from "
            "checkpoint_best.pt with --restore-file, if the loss had risen before) with"
        )
        try:
            return original(self, samples, raise_oom=True)
        except FloatingPointError as error:
            raise UsageError(f"{place}: {error}; {advice} a lower --lr or --clip-norm") from error
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UsageError(
                f"{place}: out of memory; {advice} --checkpoint-activations, a smaller --batch-size (a multiple of 8, with "
                "--update-freq), or a smaller --tokens-per-sample"
            ) from error


def check_best_metric() -> None:
    """A mistyped --best-checkpoint-metric is a KeyError at the first validation. Test: test_bad_input.py."""
    from fairseq_cli import train

    @patch(train, "get_valid_stats")
    def get_valid_stats(original, cfg, trainer, stats, *rest):
        metric = cfg.checkpoint.best_checkpoint_metric
        if metric not in stats:
            known = ", ".join(sorted(name for name, value in stats.items() if value is not None))
            raise UsageError(f"--best-checkpoint-metric {metric} is not one of what validation measures: {known}")
        return original(cfg, trainer, stats, *rest)
