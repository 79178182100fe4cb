"""The only place that patches fairseq: each patch with its reason, each with a test that fails without it.

Everything here replaces a function of fairseq by one that calls it and changes the one thing named. Both supported
versions (fairseq 0.12.2, fairseq-fixed 0.12.3.1) take the same patches. Tests: tests/integration/test_compat.py and
those named below.
"""

import functools
import importlib.util
import inspect
import logging
import os
import shutil
import warnings
from argparse import Namespace
from contextlib import contextmanager
from typing import Any, List

import torch
from fairseq import checkpoint_utils
from fairseq.criterions.adaptive_loss import AdaptiveLoss
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.modules import AdaptiveSoftmax
from fairseq.optim import OPTIMIZER_REGISTRY
from fairseq.optim.fp16_optimizer import FP16Optimizer
from fairseq.trainer import Trainer

from fairseq_sharnn.checkpoint_files import check_sums, refuse_ruins, replaced
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.models.adaptive import losses_in_bands
from fairseq_sharnn.option_checks import check_evaluation, check_training, refuse_flat_parameters, refuse_other_task

logger = logging.getLogger(__name__)


def _patch(owner, name: str):
    """Replace `owner.name` by the decorated function, which takes the original first. Once a process."""

    def decorate(function):
        original = getattr(owner, name)
        if getattr(original, "_fairseq_sharnn", False):
            return

        @functools.wraps(original)
        def patched(*args, **kwargs):
            return function(original, *args, **kwargs)

        patched._fairseq_sharnn = True
        of_class = isinstance(inspect.getattr_static(owner, name), (classmethod, staticmethod))
        setattr(owner, name, staticmethod(patched) if of_class else patched)

    return decorate


@contextmanager
def _torch_load(weights_only: bool):
    """Have torch.load calls that do not say it themselves load with `weights_only`, for one call of fairseq."""
    load = torch.load
    torch.load = functools.partial(load, weights_only=weights_only)
    try:
        yield
    finally:
        torch.load = load


def _checkpoints_load_safely_and_in_one_line() -> None:
    """A damaged, foreign or missing checkpoint ends in a traceback that does not name the file; altered tensors are not
    noticed at all; and fairseq 0.12.2 runs code from the file. One line, checksums, `weights_only`.
    Test: test_bad_input.py, test_compat.py.
    """

    @_patch(checkpoint_utils, "load_checkpoint_to_cpu")
    def load_checkpoint_to_cpu(original, path, *args, **kwargs):
        try:
            check_sums(path)
            with _torch_load(weights_only=True):
                state = original(path, *args, **kwargs)
            for task in _resuming:
                if hasattr(task, "check_checkpoint"):
                    task.check_checkpoint(state.get("task_state"), f"checkpoint {path}")
            return state
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UsageError(
                f"cannot load checkpoint {path}: it is damaged or not a fairseq checkpoint ({reason[:200]}); choose "
                "an earlier one with --restore-file (training) or --path (evaluation), or delete it to start afresh"
            ) from error

    @_patch(checkpoint_utils, "load_model_ensemble_and_task")
    def load_model_ensemble_and_task(original, filenames, *args, **kwargs):
        try:
            models, cfg, task = original(filenames, *args, **kwargs)
            refuse_other_task(filenames, str(getattr(cfg.task, "_name", None)), task)
            return models, cfg, task
        except OSError as error:
            if "Model file not found" not in str(error):
                raise
            raise UsageError(f"checkpoint {':'.join(filenames)} does not exist: check --path") from error
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            raise UsageError(
                f"checkpoint {':'.join(filenames)} does not fit this task's vocabulary or the model: "
                f"{str(error).strip().splitlines()[-1].strip()}; choose the --task it was trained with"
            ) from error

    @_patch(Trainer, "load_checkpoint")
    def load_checkpoint(original, self, filename, *args, **kwargs):
        _resuming.append(self.task)
        try:
            return original(self, filename, *args, **kwargs)
        except AssertionError as error:
            if "--reset-optimizer" not in str(error):
                raise
            raise UsageError(f"checkpoint {filename}: {error}") from error
        except Exception as error:
            if "Cannot load model parameters" not in str(error):
                raise
            raise UsageError(
                f"checkpoint {filename} does not fit the model: use the --arch and sizes it was trained with, "
                "or another --save-dir"
            ) from error
        finally:
            _resuming.pop()


# The task of the trainer that is loading a checkpoint: fairseq never shows it the task's state.
_resuming: List[Any] = []


def _checkpoints_are_replaced_whole() -> None:
    """fairseq copies checkpoint_last.pt and checkpoint_best.pt over the old ones in place, and after a full disk goes on
    writing behind the broken part. A file takes its name only when it is complete and on disk.
    Test: test_compat.py, benchmarks/kill_and_resume.py.
    """

    @_patch(PathManager, "copy")
    def copy(original, src_path, dst_path, overwrite=False):
        return replaced(dst_path, lambda temporary: shutil.copyfile(src_path, temporary))

    @_patch(checkpoint_utils, "torch_persistent_save")
    def torch_persistent_save(original, obj, filename, async_write=False):
        if async_write or not PathManager.supports_rename(filename):
            return original(obj, filename, async_write=async_write)

        def write(temporary: str) -> None:
            with open(temporary, "wb") as file:  # through Python, whose errors say what is wrong
                torch.save(obj, file)

        return replaced(filename, write)


def _streams_are_gathered_for_checkpoints() -> None:
    """Only rank 0 asks the epoch iterator for its state; here every rank is still at hand to send its lanes.
    Test: test_workers.py.
    """

    @_patch(checkpoint_utils, "save_checkpoint")
    def save_checkpoint(original, cfg, trainer, epoch_itr, val_loss):
        if not cfg.no_save:
            refuse_ruins(trainer.get_model().parameters(), trainer.get_num_updates())
        if not cfg.no_save and hasattr(epoch_itr, "gather_state"):
            workers = trainer.data_parallel_world_size
            group = trainer.data_parallel_process_group if workers > 1 else None
            epoch_itr.gather_state(workers, trainer.data_parallel_rank, group)
        return original(cfg, trainer, epoch_itr, val_loss)


def _checkpoints_reach_every_worker() -> None:
    """Rank 0 sends the checkpoint it has read to the others, through a torch.load that since torch 2.6 refuses the
    configuration in it. It comes from our own rank 0, in memory. Test: test_workers.py.
    """

    @_patch(distributed_utils, "_broadcast_object_slow")
    def _broadcast_object_slow(original, *args, **kwargs):
        with _torch_load(weights_only=False):
            return original(*args, **kwargs)


def _starts_as_asked() -> None:
    """Before training starts: torchrun works on CPU too (fairseq starts independent runs that overwrite each other),
    --bf16 does not ask for a TPU, what cannot work is refused in one line, and evaluation stays in one process: with
    --distributed-world-size above 1 fairseq prints the figure of a part of the file.
    Test: test_workers.py, test_precision.py, test_bad_input.py, test_bytes_in_bits_out.py.
    """

    @_patch(distributed_utils, "call_main")
    def call_main(original, cfg, main, **kwargs):
        training = main.__module__.endswith("train")
        launched = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()  # by torchrun or its like
        workers = int(os.environ.get("WORLD_SIZE", 1)) if launched else 1
        if cfg.common.cpu and torch.cuda.is_available():
            _leave_gpus_alone(cfg.distributed_training)
        if workers > 1 and not training:
            raise UsageError(
                "fairseq's evaluation tools run in one process: start them without torchrun, and split the work with "
                "--num-shards and --shard-id"
            )
        if training:
            check_training(cfg)
        else:
            check_evaluation(cfg, main)
            if cfg.distributed_training.distributed_init_method is None:
                cfg.distributed_training.distributed_world_size = 1
        if cfg.common.bf16 and cfg.common.tpu and importlib.util.find_spec("torch_xla") is None:
            cfg.common.tpu = cfg.distributed_training.tpu = False
        distributed = cfg.distributed_training
        if training and getattr(OPTIMIZER_REGISTRY.get(cfg.optimizer._name), "never_flat", False):
            refuse_flat_parameters(distributed.ddp_backend)
        if workers > 1 and not cfg.common.cpu and distributed.distributed_init_method is None:
            distributed.distributed_world_size = workers  # fairseq-fixed looks no further when it counts one GPU here
        # for a lone worker, too: fairseq 0.12.2 takes NCCL for it
        if launched and cfg.common.cpu and distributed.distributed_init_method is None:
            distributed.distributed_world_size = workers
            distributed.distributed_rank = int(os.environ["RANK"])
            distributed.device_id = int(os.environ.get("LOCAL_RANK", 0))
            distributed.distributed_init_method = "env://"
            distributed.distributed_no_spawn = True
            distributed.distributed_backend = "gloo"
            distributed.ddp_backend = "legacy_ddp"
        try:
            result = original(cfg, main, **kwargs)
        except torch.multiprocessing.ProcessExitedException as error:
            raise SystemExit(error.exit_code) from None  # a worker has ended, and has said why
        if launched and torch.distributed.is_initialized():
            # fairseq leaves the group's threads running; now and then one aborts a finished run at interpreter exit
            torch.distributed.destroy_process_group()
        return result

    @_patch(Trainer, "_build_optimizer")
    def _build_optimizer(original, self):
        if getattr(OPTIMIZER_REGISTRY.get(self.cfg.optimizer._name), "never_flat", False):
            refuse_flat_parameters(self.cfg.distributed_training.ddp_backend)
        original(self)
        _tell_names(self)


def _leave_gpus_alone(distributed) -> None:
    """With --cpu fairseq still moves norms of gradients to a GPU that it sees, and starts a worker for each GPU."""
    torch.cuda.is_available = lambda: False
    torch.cuda.device_count = lambda: 0
    if distributed.distributed_init_method is None:
        distributed.distributed_world_size = 1


def _tell_names(trainer) -> None:
    """fairseq's optimizers see tensors without names; one that logs them is told. Test: test_trust_log.py."""
    optimizer = trainer._optimizer
    for wrapper in ("fp32_optimizer", "wrapped_optimizer"):
        if not hasattr(optimizer, "watch_trust") and hasattr(optimizer, wrapper):
            optimizer = getattr(optimizer, wrapper)
    if hasattr(optimizer, "watch_trust") and trainer.is_data_parallel_master:
        names = [name for name, parameter in trainer.get_model().named_parameters() if parameter.requires_grad]
        optimizer.watch_trust(names, trainer.get_num_updates)


def _lamb_is_never_flattened() -> None:
    """`--fp16` flattens all parameters into one buffer, for which LAMB's norms are another algorithm. fairseq only
    refuses, after building the buffer; where the optimizer declares that it takes no flat parameters, keep tensors.
    The optimizer is also told that it holds master weights, which nothing else saves. Test: test_precision.py.
    """

    @_patch(FP16Optimizer, "build_optimizer")
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


def _failed_updates_say_where() -> None:
    """fairseq drops the chunk of an update that runs out of memory and goes on, which tears a stream; and it does not
    say where a NaN came from. Stop with the update, the chunk and the place; the last checkpoint is still good.
    Test: test_resume.py.
    """

    @_patch(Trainer, "train_step")
    def train_step(original, self, samples, raise_oom=False):
        streams = [sample["net_input"].get("stream") for sample in samples if sample and "net_input" in sample]
        if not streams or streams[0] is None:
            return original(self, samples, raise_oom)
        place = (
            f"update {self.get_num_updates() + 1:,} (chunk {streams[0].index + 1:,} of the epoch, its first lane at "
            f"{streams[0].unit} {streams[0].first_byte:,})"
        )
        advice = (
            "this update was not made and the checkpoints are as they were; go on from the last one (or from "
            "checkpoint_best.pt with --restore-file, if the loss had risen before) with"
        )
        try:
            return original(self, samples, raise_oom=True)
        except FloatingPointError as error:
            raise UsageError(f"{place}: {error}; {advice} a lower --lr or --clip-norm") from error
        except RuntimeError as error:
            if "out of memory" not in str(error):
                raise
            raise UsageError(
                f"{place}: out of memory; {advice} a smaller --batch-size (and --update-freq), a smaller "
                "--tokens-per-sample, or --checkpoint-activations"
            ) from error


def _best_metric_is_one_that_exists() -> None:
    """A mistyped --best-checkpoint-metric is a KeyError at the first validation. Test: test_bad_input.py."""
    from fairseq_cli import train

    @_patch(train, "get_valid_stats")
    def get_valid_stats(original, cfg, trainer, stats, *rest):
        metric = cfg.checkpoint.best_checkpoint_metric
        if metric not in stats:
            known = ", ".join(sorted(name for name, value in stats.items() if value is not None))
            raise UsageError(f"--best-checkpoint-metric {metric} is not one of what validation measures: {known}")
        return original(cfg, trainer, stats, *rest)


def _adaptive_loss_counts_every_target() -> None:
    """fairseq takes number 1 of every band for padding, though the bands behind the first are numbered from 0: a symbol
    of each gets no loss. And it sums the loss in half precision, which ends at 65504: 16 x 1024 targets of a fresh model
    cost more. Padding is looked for in the first band alone; bands answer in float32, to the scorer as well.
    Test: tests/unit/models/test_adaptive.py.
    """

    @_patch(AdaptiveSoftmax, "__init__")
    def __init__(original, self, *args, **kwargs):
        original(self, *args, **kwargs)
        for band in (self.head, *self.tail):
            band.register_forward_hook(_in_float32)

    @_patch(AdaptiveLoss, "forward")
    def forward(original, self, model, sample, reduce=True):
        output = model(**sample["net_input"])
        target = model.get_targets(sample, output)
        loss = losses_in_bands(model.decoder.adaptive_softmax, output[0], target.view(-1), self.padding_idx)
        loss = loss.sum().view(1) if reduce else loss
        ntokens = int(target.ne(self.padding_idx).sum())
        sample_size = target.size(0) if self.sentence_avg else ntokens
        counts = {"ntokens": ntokens, "nsentences": target.size(0), "sample_size": sample_size}
        return loss, sample_size, {"loss": loss.data, **counts}


def _in_float32(module, inputs, logits: torch.Tensor) -> torch.Tensor:
    return logits.float()


def _lstm_lm_checkpoints_load() -> None:
    """Checkpoints of fairseq's older models hold an argparse.Namespace, which torch refuses to unpickle with
    `weights_only`. A Namespace is plain data. Test: test_bytes_in_bits_out.py.
    """
    torch.serialization.add_safe_globals([Namespace])


def _no_warning_flood() -> None:
    """fairseq calls parts of torch and hydra that warn about their future at every start; nothing a user can act on. Nor
    on cuDNN's advice to flatten LSTM weights that DropConnect has just made, or bf16 ones.
    Test: test_bytes_in_bits_out.py.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"fairseq\.")
    for message in (
        r"\s*RNN module weights are not part of single contiguous chunk",
        r"\s*amp_C fused kernels unavailable",
        r"\s*hydra\.experimental",
        r"\s*The version_base",
        r"\s*The strict flag in the compose API",
        r"\s*'\w+' is validated against ConfigStore",
        r"\s*In '\w+': Usage of deprecated keyword in package header",
    ):
        warnings.filterwarnings("ignore", category=UserWarning, message=message)


def apply() -> None:
    """Apply every patch, once a process."""
    _checkpoints_load_safely_and_in_one_line()
    _checkpoints_are_replaced_whole()
    _streams_are_gathered_for_checkpoints()
    _checkpoints_reach_every_worker()
    _starts_as_asked()
    _lamb_is_never_flattened()
    _failed_updates_say_where()
    _best_metric_is_one_that_exists()
    _adaptive_loss_counts_every_target()
    _lstm_lm_checkpoints_load()
    _no_warning_flood()
