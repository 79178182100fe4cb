"""Patches to how fairseq writes and reads checkpoints."""

import functools
import os
import shutil
from argparse import Namespace
from contextlib import contextmanager
from typing import Any, Dict, Optional

import torch
from fairseq import checkpoint_utils, utils
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.trainer import Trainer
from omegaconf import open_dict

from fairseq_sharnn.compat.checkpoint_files import check_sums, refuse_ruins, write_checkpoint
from fairseq_sharnn.compat.option_checks import BYTES, TOKENS, refuse_other_task
from fairseq_sharnn.compat.patching import patch, replaced
from fairseq_sharnn.errors import UsageError

# Options of the streaming tasks that checkpoints of earlier versions do not have.
NEW_IN_TASKS = ("dynamic_lr", "dynamic_optimizer", "dynamic_decay", "dynamic_clip")


@contextmanager
def _torch_load(weights_only: bool):
    """Within the block, calls of torch.load that leave `weights_only` open load with this value of it."""
    with replaced(torch, "load", functools.partial(torch.load, weights_only=weights_only)):
        yield


def load_safely() -> None:
    """A damaged, foreign or missing checkpoint ends in a traceback that does not name the file. Altered tensors are not
    noticed at all. fairseq 0.12.2 runs code from the file. The patch: one line, checksums, `weights_only`.
    Test: test_bad_input.py, test_compat.py.
    """
    _load_in_training()

    @patch(checkpoint_utils, "load_checkpoint_to_cpu")
    def load_checkpoint_to_cpu(original, path, *args, **kwargs):
        try:
            check_sums(path)
            with _torch_load(weights_only=True):
                state = original(path, *args, **kwargs)
            _add_new_options(state, args[0] if args else kwargs.get("arg_overrides"))
            return state
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UsageError(
                f"cannot load checkpoint {path}: it is damaged or not a fairseq checkpoint ({reason[:200]}); choose "
                "an earlier one with --restore-file (training) or --path (evaluation), or delete it to start afresh"
            ) from error

    @patch(checkpoint_utils, "load_model_ensemble_and_task")
    def load_model_ensemble_and_task(original, filenames, *args, **kwargs):
        if len(filenames) == 1 and not os.path.exists(filenames[0]):  # fairseq-eval-lm --path a.pt:b.pt
            filenames = utils.split_paths(filenames[0])
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


def _add_new_options(state: Dict[str, Any], overrides: Optional[Dict[str, Any]]) -> None:
    """fairseq ignores an override that the checkpoint's configuration does not name, and an old one does not name what is
    newer: fairseq-validate would ignore --dynamic-lr. Test: test_dynamic_evaluation.py.
    """
    task = (state.get("cfg") or {}).get("task")
    known = NEW_IN_TASKS if str(getattr(task, "_name", None)) in (BYTES, TOKENS) else ()
    for name in known:
        if name in (overrides or {}) and name not in task:
            with open_dict(task):
                task[name] = overrides[name]


def _load_in_training() -> None:
    """The part of `load_safely` for --restore-file: the task checks its state, and one line says what does not fit."""

    @patch(Trainer, "load_checkpoint")
    def load_checkpoint(original, self, filename, *args, **kwargs):
        load = checkpoint_utils.load_checkpoint_to_cpu

        def load_and_check(path, *args, **kwargs):
            """fairseq never shows the trainer's task the state that the checkpoint holds of it."""
            state = load(path, *args, **kwargs)
            if hasattr(self.task, "check_checkpoint"):
                self.task.check_checkpoint(state.get("task_state"), f"checkpoint {path}")
            return state

        try:
            with replaced(checkpoint_utils, "load_checkpoint_to_cpu", load_and_check):
                return original(self, filename, *args, **kwargs)
        except AssertionError as error:
            if "--reset-optimizer" not in str(error):
                raise
            raise UsageError(f"checkpoint {filename}: {error}") from error
        except UsageError:
            raise
        except Exception as error:
            if isinstance(error.__context__, UsageError):  # fairseq hides what the model's load_state_dict says
                raise error.__context__ from None
            if "Cannot load model parameters" not in str(error):
                raise
            raise UsageError(
                f"checkpoint {filename} does not fit the model: use the --arch and sizes it was trained with, "
                "or another --save-dir"
            ) from error


def write_atomically() -> None:
    """fairseq copies checkpoint_last.pt and checkpoint_best.pt over the old ones in place, and after a full disk it
    continues to write after the broken part. The patch: a file takes its name only when it is complete and on disk.
    Test: test_compat.py, tests/stress/kill_and_resume.py.
    """

    @patch(PathManager, "copy")
    def copy(original, src_path, dst_path, overwrite=False):
        return write_checkpoint(dst_path, lambda temporary: shutil.copyfile(src_path, temporary))

    @patch(checkpoint_utils, "torch_persistent_save")
    def torch_persistent_save(original, obj, filename, async_write=False):
        if async_write or not PathManager.supports_rename(filename):
            return original(obj, filename, async_write=async_write)

        def write(temporary: str) -> None:
            with open(temporary, "wb") as file:  # through Python, whose errors say what is wrong
                torch.save(obj, file)

        return write_checkpoint(filename, write)


def gather_streams() -> None:
    """Only rank 0 asks the epoch iterator for its state. The patch: before that, every rank sends it its lanes' state.
    Test: test_workers.py.
    """

    @patch(checkpoint_utils, "save_checkpoint")
    def save_checkpoint(original, cfg, trainer, epoch_itr, val_loss):
        if not cfg.no_save:
            refuse_ruins(trainer.get_model().parameters(), trainer.get_num_updates())
        if not cfg.no_save and hasattr(epoch_itr, "gather_state"):
            workers = trainer.data_parallel_world_size
            group = trainer.data_parallel_process_group if workers > 1 else None
            epoch_itr.gather_state(workers, trainer.data_parallel_rank, group)
        return original(cfg, trainer, epoch_itr, val_loss)


def broadcast_checkpoints() -> None:
    """Rank 0 sends the checkpoint that it has read to the others, through a torch.load that refuses the configuration in
    it since torch 2.6. The data comes from our own rank 0, in memory, so it is safe. Test: test_workers.py.
    """

    @patch(distributed_utils, "_broadcast_object_slow")
    def _broadcast_object_slow(original, *args, **kwargs):
        with _torch_load(weights_only=False):
            return original(*args, **kwargs)


def allow_namespace() -> None:
    """Checkpoints of fairseq's older models hold an argparse.Namespace, which torch refuses to unpickle with
    `weights_only`. A Namespace is plain data. Test: test_bytes_in_bits_out.py.
    """
    torch.serialization.add_safe_globals([Namespace])
