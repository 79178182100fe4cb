"""The only place that patches fairseq: each patch with its reason, each with a test that fails without it.

Everything here replaces a function of fairseq by one that calls it and changes the one thing named. Both supported
versions (fairseq 0.12.2, fairseq-fixed 0.12.3.1) take the same patches.
"""

import functools
import inspect
import logging
import warnings
import zipfile
from argparse import Namespace

import torch
from fairseq import checkpoint_utils
from fairseq.optim import OPTIMIZER_REGISTRY
from fairseq.optim.fp16_optimizer import FP16Optimizer
from fairseq.trainer import Trainer

from fairseq_sharnn.errors import UsageError

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
        of_class = isinstance(inspect.getattr_static(owner, name), classmethod)
        setattr(owner, name, staticmethod(patched) if of_class else patched)

    return decorate


def _checkpoints_load_in_one_line() -> None:
    """A damaged, foreign or missing checkpoint ends in a traceback that does not name the file. One line does."""

    @_patch(checkpoint_utils, "load_checkpoint_to_cpu")
    def load_checkpoint_to_cpu(original, path, *args, **kwargs):
        try:
            _check_sums(path)
            return original(path, *args, **kwargs)
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UsageError(
                f"cannot load checkpoint {path}: it is damaged or not a fairseq checkpoint ({reason[:200]}); choose "
                "an earlier one with --restore-file (training) or --path (evaluation), or delete it to start afresh"
            ) from error

    @_patch(checkpoint_utils, "load_model_ensemble_and_task")
    def load_model_ensemble_and_task(original, filenames, *args, **kwargs):
        try:
            return original(filenames, *args, **kwargs)
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


def _check_sums(path: str) -> None:
    """Compare the checksums that torch.save writes into its zip container; torch.load does not look at them."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as container:
            bad = container.testzip()
        if bad is not None:
            raise ValueError(f"the checksum of {bad} is wrong")


def _lamb_is_never_flattened() -> None:
    """`--fp16` flattens all parameters into one buffer, for which LAMB's norms are another algorithm. fairseq only
    refuses, after building the buffer; where the optimizer declares that it takes no flat parameters, keep tensors.
    """

    @_patch(FP16Optimizer, "build_optimizer")
    def build_optimizer(original, cfg, params, **kwargs):
        name = cfg.optimizer if isinstance(cfg.optimizer, str) else getattr(cfg.optimizer, "_name", None)
        optimizer = OPTIMIZER_REGISTRY.get(name)
        if getattr(optimizer, "never_flat", False) and not cfg.common.fp16_no_flatten_grads:
            logger.info(f"{name} takes norms of each tensor: as with --fp16-no-flatten-grads")
            cfg.common.fp16_no_flatten_grads = True
        return original(cfg, params, **kwargs)


def _lstm_lm_checkpoints_load() -> None:
    """Checkpoints of fairseq's older models hold an argparse.Namespace, which torch >= 2.6 refuses to unpickle with
    `weights_only`. A Namespace is plain data.
    """
    torch.serialization.add_safe_globals([Namespace])


def _no_warning_flood() -> None:
    """fairseq calls parts of torch and hydra that warn about their future at every start; nothing a user can act on."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"fairseq\.")
    for message in (
        r"\s*hydra\.experimental",
        r"\s*The version_base",
        r"\s*The strict flag in the compose API",
        r"\s*'\w+' is validated against ConfigStore",
        r"\s*In '\w+': Usage of deprecated keyword in package header",
    ):
        warnings.filterwarnings("ignore", category=UserWarning, message=message)


def apply() -> None:
    """Apply every patch, once a process."""
    _checkpoints_load_in_one_line()
    _lamb_is_never_flattened()
    _lstm_lm_checkpoints_load()
    _no_warning_flood()
