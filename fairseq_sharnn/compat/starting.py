"""Patches to how fairseq starts its command lines and their workers."""

import atexit
import gc
import importlib.util
import os
import sys
import warnings
from typing import Any, Callable

import torch
from fairseq.distributed import utils as distributed_utils
from fairseq.optim import OPTIMIZER_REGISTRY

from fairseq_sharnn.compat.option_checks import check_evaluation, check_training, refuse_flat_parameters
from fairseq_sharnn.compat.patching import patch
from fairseq_sharnn.errors import UsageError, usage_errors_in_one_line


def check_and_launch() -> None:
    """Before training starts: torchrun works on CPU too (fairseq starts independent runs that overwrite each other),
    --bf16 does not ask for a TPU, what cannot work is refused in one line, and evaluation stays in one process: with
    --distributed-world-size above 1 fairseq prints the figure of a part of the file.
    Test: test_workers.py, test_precision.py, test_bad_input.py, test_bytes_in_bits_out.py.
    """

    @patch(distributed_utils, "call_main")
    @usage_errors_in_one_line()
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
        callers_own = torch.distributed.is_initialized()
        try:
            result = original(cfg, _InOneLine(main), **kwargs)
        except torch.multiprocessing.ProcessExitedException as error:
            raise SystemExit(error.exit_code) from None  # a worker has ended, and has said why
        if torch.distributed.is_initialized() and not callers_own:
            _end_process_groups()
        return result


class _InOneLine:
    """A `main` of fairseq whose UsageErrors end its process in one line. Pickled to the workers that fairseq spawns."""

    def __init__(self, main: Callable[..., Any]):
        self.main = main

    def __call__(self, cfg, **kwargs) -> Any:
        with usage_errors_in_one_line():
            return self.main(cfg, **kwargs)


def end_generation_in_one_line() -> None:
    """fairseq-generate is the one command line that does not start through `call_main`. Test: test_bad_input.py."""
    generate = sys.modules.get("fairseq_cli.generate")
    if generate is not None:

        @patch(generate, "main")
        @usage_errors_in_one_line()
        def main(original, cfg):
            return original(cfg)


def end_process_groups_at_exit() -> None:
    """fairseq leaves process groups behind. Their threads go on, and now and then one of gloo aborts its process at
    interpreter exit, after all work is done. Here for workers that fairseq starts itself and for those that fail; only
    with gloo, for NCCL may wait for peers that are gone. Test: test_workers.py.
    """

    @atexit.register
    def end_at_exit():
        if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
            _end_process_groups()


def _end_process_groups() -> None:
    """Threads end with the last reference to their group, which torch's own call does not reach: fairseq holds one, its
    trainer another, and where torch.distributed.nn was imported after the start its functions' defaults the third.
    """
    vars(distributed_utils.get_global_group).pop("_global_group", None)
    group = torch.distributed.group.WORLD
    for function in vars(sys.modules.get("torch.distributed.nn.functional", object)).values():
        defaults = getattr(function, "__defaults__", None) or ()
        if any(value is group for value in defaults):
            function.__defaults__ = tuple(None if value is group else value for value in defaults)  # None is WORLD, too
    del group
    torch.distributed.destroy_process_group()
    gc.collect()  # a trainer is in a cycle, and DDP's reducer with it


def _leave_gpus_alone(distributed) -> None:
    """With --cpu fairseq still moves norms of gradients to a GPU that it sees, and starts a worker for each GPU."""
    torch.cuda.is_available = lambda: False
    torch.cuda.device_count = lambda: 0
    if distributed.distributed_init_method is None:
        distributed.distributed_world_size = 1


def silence_warnings() -> None:
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
