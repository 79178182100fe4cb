"""Options and paths that fairseq answers with a traceback, or silently goes on with: refused in one line before a start."""

import ast
import os

from fairseq.file_io import PathManager

from fairseq_sharnn.errors import UsageError


def check_training(cfg) -> None:
    """fairseq-train and fairseq-hydra-train. Raises UsageError."""
    if cfg.dataset.batch_size is None and cfg.dataset.max_tokens is None:
        raise UsageError("give the number of lanes on each worker with --batch-size")
    if cfg.checkpoint.write_checkpoints_asynchronously:
        raise UsageError("--write-checkpoints-asynchronously cannot replace checkpoints whole: leave it out")
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


def check_evaluation(cfg, main) -> None:
    """fairseq-eval-lm and fairseq-validate. Raises UsageError."""
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
    if main.__module__.endswith("validate") and cfg.dataset.batch_size is None and cfg.dataset.max_tokens is None:
        raise UsageError("give the number of lanes with --batch-size")


def refuse_flat_parameters(ddp_backend: str) -> None:
    """For an optimizer that takes norms of each tensor. Raises UsageError."""
    if ddp_backend == "fully_sharded":
        raise UsageError(
            "--ddp-backend fully_sharded flattens parameters, and lamb_min_trust takes norms of each tensor: use "
            "--ddp-backend legacy_ddp or c10d"
        )
