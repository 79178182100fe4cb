"""Patches to how fairseq starts its command lines and their workers."""

import atexit
import gc
import importlib.util
import sys
import warnings
from contextlib import contextmanager
from typing import Iterator, Optional

import torch
from fairseq.distributed import utils as distributed_utils
from fairseq.optim import OPTIMIZER_REGISTRY

from fairseq_sharnn.compat.launching import VARIABLES, Launch, bounded_wait, forget_launch
from fairseq_sharnn.compat.option_checks import (
    check_evaluation,
    check_training,
    check_workers,
    refuse_flat_parameters,
    refuse_generation,
)
from fairseq_sharnn.compat.patching import patch
from fairseq_sharnn.compat.programs import INTERRUPTED, Program
from fairseq_sharnn.errors import UsageError, usage_errors_in_one_line


def check_and_launch() -> None:
    """Before a command line starts: torchrun works on CPU too (fairseq starts independent runs that overwrite each other),
    --bf16 does not ask for a TPU, and what cannot work is refused in one line. Evaluation stays in one process: with
    --distributed-world-size above 1 fairseq prints the figure of a part of the file. What happens around `main` itself:
    compat/programs.py.
    Test: test_workers.py, test_precision.py, test_bad_input.py, test_bytes_in_bits_out.py, test_interrupts_and_locks.py.
    """

    @patch(distributed_utils, "call_main")
    @usage_errors_in_one_line()
    def call_main(original, cfg, main, **kwargs):
        program = Program(main)
        training = program.name == "train"
        launch = Launch.of_environment()
        if cfg.common.cpu and torch.cuda.is_available():
            _leave_gpus_alone(cfg.distributed_training)
        if launch is not None and launch.workers > 1 and not training:
            raise UsageError(
                "fairseq's evaluation tools run in one process: start them without torchrun, and split the work with "
                f"--num-shards and --shard-id; without torchrun, unset {' '.join(VARIABLES)}"
            )
        if training:
            check_training(cfg)
        else:
            refuse_generation(program.name, cfg.task)
            check_evaluation(cfg, program.name)
            if cfg.distributed_training.distributed_init_method is None:
                cfg.distributed_training.distributed_world_size = 1
        if launch is None and not cfg.common.tpu:
            check_workers(cfg.distributed_training)
        if cfg.common.bf16 and cfg.common.tpu and importlib.util.find_spec("torch_xla") is None:
            cfg.common.tpu = cfg.distributed_training.tpu = False
        if training and getattr(OPTIMIZER_REGISTRY.get(cfg.optimizer._name), "never_flat", False):
            refuse_flat_parameters(cfg.distributed_training.ddp_backend)
        callers_own = torch.distributed.is_initialized()
        try:
            with _launched(cfg, launch):
                result = original(cfg, program, **kwargs)
        except torch.multiprocessing.ProcessExitedException as error:
            raise SystemExit(error.exit_code) from None  # a worker has ended, and has said why
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None  # of workers that fairseq has started; they say where
        if torch.distributed.is_initialized() and not callers_own:
            _end_process_groups()
        return result


@contextmanager
def _launched(cfg, launch: Optional[Launch]) -> Iterator[None]:
    """Take this process's place among a launcher's workers from its environment, unless the options say it."""
    distributed = cfg.distributed_training
    if launch is None or distributed.distributed_init_method is not None:
        yield
    elif not cfg.common.cpu:
        if launch.workers > 1:
            distributed.distributed_world_size = launch.workers  # fairseq-fixed looks no further when it counts one GPU
        yield
    elif launch.workers == 1:  # nobody to talk to; and the address may be left over from another job
        forget_launch()
        yield
    else:
        distributed.distributed_world_size = launch.workers
        distributed.distributed_rank = launch.rank
        distributed.device_id = launch.local_rank
        distributed.distributed_init_method = "env://"
        distributed.distributed_no_spawn = True
        distributed.distributed_backend = "gloo"
        distributed.ddp_backend = "legacy_ddp"
        with bounded_wait(launch):
            yield


def end_generation_in_one_line() -> None:
    """fairseq-generate is the one command line that does not start through `call_main`. Test: test_bad_input.py."""
    from fairseq_cli import generate

    @patch(generate, "main")
    @usage_errors_in_one_line()
    def main(original, cfg):
        refuse_generation("generate", cfg.task)
        return original(cfg)


def end_process_groups_at_exit() -> None:
    """fairseq leaves process groups behind. Their threads keep running, and now and then one of gloo aborts its process
    when the interpreter exits, after all work is done. This is for workers that fairseq starts itself and for those that
    fail. Only for gloo: NCCL may wait for peers that are gone. Test: test_workers.py.
    """

    @atexit.register
    def end_at_exit():
        if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
            _end_process_groups()


def _end_process_groups() -> None:
    """Threads end with the last reference to their group. torch's own call does not reach them all: fairseq holds one, its
    trainer another, and the defaults of torch.distributed.nn's functions a third, if it was imported after the start.
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
    """With --cpu fairseq still moves norms of gradients to a GPU that it sees, and starts one worker for each GPU."""
    torch.cuda.is_available = lambda: False
    torch.cuda.device_count = lambda: 0
    if distributed.distributed_init_method is None:
        distributed.distributed_world_size = 1


def silence_warnings() -> None:
    """fairseq calls parts of torch and hydra that warn about their future at every start. A user cannot act on them.
    Test: test_bytes_in_bits_out.py.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"fairseq\.")
    for message in (
        r"\s*amp_C fused kernels unavailable",
        r"\s*hydra\.experimental",
        r"\s*The version_base",
        r"\s*The strict flag in the compose API",
        r"\s*'\w+' is validated against ConfigStore",
        r"\s*In '\w+': Usage of deprecated keyword in package header",
    ):
        warnings.filterwarnings("ignore", category=UserWarning, message=message)
