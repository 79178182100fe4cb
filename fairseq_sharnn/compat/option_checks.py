"""Options and paths at which fairseq ends in a traceback, or which it silently ignores: refused in one line at the start."""

import ast
import logging
import os
from typing import Sequence

import torch
from fairseq.file_io import PathManager

from fairseq_sharnn.compat.fairseq_options import check_options
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.evaluation.dynamic import settings_of

logger = logging.getLogger(__name__)

BYTES, TOKENS = "byte_level_lm", "streaming_lm"


def check_training(cfg) -> None:
    """fairseq-train and fairseq-hydra-train. Raises UsageError."""
    default_task = "translation"  # fairseq's --task where none is given
    if _name(cfg.task) == default_task and _name(cfg.model).startswith("sha_rnn"):
        raise UsageError(f"--arch {_name(cfg.model)} models one text: give --task {BYTES} (or {TOKENS})")
    if cfg.dataset.batch_size is None and cfg.dataset.max_tokens is None:
        raise UsageError("give the number of lanes on each worker with --batch-size")
    if cfg.checkpoint.write_checkpoints_asynchronously:
        raise UsageError("--write-checkpoints-asynchronously cannot replace checkpoints whole: leave it out")
    if _name(cfg.task) in (BYTES, TOKENS):
        check_options(cfg)
        if settings_of(cfg.task).learns:
            raise UsageError(
                "--dynamic-lr is for evaluation, and the validation of training is static: leave it out here, and give it "
                "to fairseq-eval-lm or fairseq-validate"
            )
    if min(cfg.optimization.update_freq) < 1:
        raise UsageError(f"--update-freq must be at least 1, but it is {min(cfg.optimization.update_freq)}")
    checkpoint = cfg.checkpoint
    if os.path.exists(checkpoint.save_dir) and not os.path.isdir(checkpoint.save_dir):
        raise UsageError(f"--save-dir {checkpoint.save_dir} is a file: name a folder")
    default = checkpoint.restore_file == "checkpoint_last.pt"
    if not default and not PathManager.exists(checkpoint.restore_file):
        raise UsageError(f"--restore-file {checkpoint.restore_file} does not exist")
    first = not PathManager.exists(os.path.join(checkpoint.save_dir, "checkpoint_last.pt"))
    pretrained = checkpoint.finetune_from_model
    if pretrained is not None and first and not PathManager.exists(pretrained):
        raise UsageError(f"--finetune-from-model {pretrained} does not exist")


def check_evaluation(cfg, name: str) -> None:
    """fairseq-eval-lm and fairseq-validate. Raises UsageError."""
    data = getattr(cfg.task, "data", None) or ""
    if _name(cfg.task) == "language_modeling" and _raw_bytes(data):  # fairseq's --task where none is given
        raise UsageError(f"DATA folder {data} holds raw bytes: give --task {BYTES}")
    if cfg.common_eval.path is None:
        raise UsageError("name the checkpoint to evaluate with --path")
    try:
        overrides = ast.literal_eval(str(cfg.common_eval.model_overrides))
    except (ValueError, SyntaxError):
        overrides = None
    if not isinstance(overrides, dict):
        raise UsageError(
            f"--model-overrides takes a dictionary such as \"{{'context_length': 1000}}\", not "
            f"{cfg.common_eval.model_overrides}"
        )
    validates, path = name == "validate", cfg.common_eval.path
    if validates and os.pathsep in path and not os.path.exists(path):
        raise UsageError(f"fairseq-validate takes one checkpoint, not --path {path}: fairseq-eval-lm averages several")
    if _name(cfg.task) in (BYTES, TOKENS):
        check_options(cfg)
        if cfg.dataset.batch_size is None and cfg.dataset.max_tokens is not None:  # eval-lm leaves them out
            cfg.dataset.batch_size = max(1, cfg.dataset.max_tokens // max(1, cfg.task.tokens_per_sample))
        logger.info(f"evaluation: {settings_of(cfg.task)}")
    if validates and cfg.dataset.batch_size is None and cfg.dataset.max_tokens is None:
        raise UsageError("give the number of lanes with --batch-size")


def refuse_profiling_without_gpu(cfg) -> None:
    """Before fairseq-train starts CUDA's profiler. Raises UsageError."""
    if cfg.common.profile and (cfg.common.cpu or not torch.cuda.is_available()):
        raise UsageError("--profile is CUDA's profiler and needs a GPU: leave it out, or use torch.profiler on CPU")


def refuse_unused_valid_subsets(cfg, ignored: Sequence[str]) -> None:
    """Files such as valid1 or valid1.bin that no option mentions. Raises UsageError."""
    given = cfg.dataset.valid_subset.split(",")
    left = sorted({name.partition(".")[0] for name in ignored} - set(given))  # valid1.bytes.npy belongs to valid1
    if not left:
        return
    splits = ",".join([*given, *left])
    raise UsageError(
        f"DATA has {', '.join(left)}, which --valid-subset {cfg.dataset.valid_subset} would leave out: validate "
        f"on it with --valid-subset {splits} (the first one decides), or leave it out with --ignore-unused-valid-subsets"
    )


def refuse_generation(name: str, task) -> None:
    """fairseq-generate and fairseq-interactive translate sentences, for which streams have no pairs. Raises UsageError."""
    given = task if isinstance(task, str) else _name(task)
    if name in ("generate", "interactive") and given in (BYTES, TOKENS):
        raise UsageError(
            f"fairseq-{name} translates sentences, and --task {given} has none: to continue a text, use "
            "python -m fairseq_sharnn sample, or from_pretrained(...).sample(...) in Python"
        )


def refuse_flat_parameters(ddp_backend: str) -> None:
    """For an optimizer that takes norms of each tensor. Raises UsageError."""
    if ddp_backend == "fully_sharded":
        raise UsageError(
            "--ddp-backend fully_sharded flattens parameters, and lamb_min_trust takes norms of each tensor: use "
            "--ddp-backend legacy_ddp or c10d"
        )


def check_workers(distributed) -> None:
    """fairseq starts one worker on each GPU. Without GPUs it ends at once, with exit code 0 and without a word, or with an
    assertion. Raises UsageError.
    """
    gpus, workers, method = (
        torch.cuda.device_count(),
        distributed.distributed_world_size,
        distributed.distributed_init_method,
    )
    if distributed.distributed_no_spawn or distributed.distributed_port > 0:  # others have started the workers
        return
    if method is None and workers > max(gpus, 1):
        raise UsageError(
            f"--distributed-world-size {workers} needs {workers} GPUs, and fairseq finds {gpus}: give "
            f"{max(gpus, 1)}; on CPU torchrun starts several workers"
        )
    if method is not None and gpus == 0:
        raise UsageError(
            f"--distributed-init-method {method} starts a worker on each GPU, and fairseq finds none: leave it out; on CPU "
            "torchrun starts several workers"
        )


def check_criterion(cfg, adaptive_softmax: bool) -> None:
    """A criterion for a model with or without an adaptive softmax. Raises UsageError."""
    name = _name(cfg)
    if name == "adaptive_loss":
        if not adaptive_softmax:
            raise UsageError("--criterion adaptive_loss needs a model with --adaptive-softmax-cutoff")
        if cfg.ddp_backend in ("c10d", "pytorch_ddp"):
            raise UsageError(
                f"--criterion adaptive_loss does not work with --ddp-backend {cfg.ddp_backend}, on one device neither: "
                "use --ddp-backend legacy_ddp"
            )
    elif adaptive_softmax and name.endswith("cross_entropy"):
        raise UsageError(
            f"--criterion {name} does not work on a model with --adaptive-softmax-cutoff: use --criterion "
            "adaptive_loss --ddp-backend legacy_ddp"
        )


def refuse_other_task(filenames: Sequence[str], trained_with: str, task) -> None:
    """A checkpoint of a streaming task under a task that would drop its state between batches. Raises UsageError."""
    if trained_with in (BYTES, TOKENS) and _name(task.cfg) not in (BYTES, TOKENS):
        raise UsageError(
            f"checkpoint {':'.join(filenames)} was trained with --task {trained_with}, which carries state through the "
            f"text: give --task {trained_with}"
        )


def _name(cfg) -> str:
    return str(getattr(cfg, "_name", None))


def _raw_bytes(folder: str) -> bool:
    """Whether a DATA folder has splits as byte_level_lm reads them, and no dictionary."""
    held = {name for name in ("train", "valid", "test", "dict.txt") if os.path.isfile(os.path.join(folder, name))}
    return bool(held) and "dict.txt" not in held
