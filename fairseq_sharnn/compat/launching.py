"""Workers that a launcher started: torchrun, or its like, which say so in RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT."""

import datetime
import logging
import os
from contextlib import contextmanager
from typing import Any, Iterator, NamedTuple, Optional

import torch

from fairseq_sharnn.compat.patching import replaced
from fairseq_sharnn.errors import UsageError

logger = logging.getLogger(__name__)

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LONGEST_WAIT = datetime.timedelta(minutes=3)  # for the other workers, where no torchrun watches over them


class Launch(NamedTuple):
    """The place of this process among the workers of a launcher."""

    rank: int
    workers: int
    local_rank: int

    @classmethod
    def of_environment(cls) -> Optional["Launch"]:
        """What the environment says; None without a launcher. Raises UsageError for numbers that cannot be."""
        if not os.environ.keys() >= set(VARIABLES):
            return None
        try:
            rank, workers = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            local_rank = int(os.environ.get("LOCAL_RANK", 0))
        except ValueError:
            rank = workers = local_rank = -1
        if not 0 <= rank < workers:
            raise UsageError(
                f"RANK={os.environ['RANK']} and WORLD_SIZE={os.environ['WORLD_SIZE']} in the environment are not the "
                f"place of a worker: start with torchrun, or unset {' '.join(VARIABLES)}"
            )
        return cls(rank, workers, local_rank)


def forget_launch() -> None:
    """Remove what a launcher left in the environment, so that fairseq starts one process."""
    for name in VARIABLES:
        os.environ.pop(name, None)


@contextmanager
def bounded_wait(launch: Launch) -> Iterator[None]:
    """Within the block, joining the other workers ends in one line when they do not come.

    torchrun starts all workers, and ends them together. Other launchers do not say who they are: then the variables may
    as well be left over from another job, and the others will never come.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        yield
        return
    join = torch.distributed.init_process_group

    def init_process_group(backend: str, init_method: str, world_size: int, rank: int, **options: Any) -> None:
        logger.info(
            f"RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT say: worker {rank} of {world_size}; waiting for the others"
        )
        address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
        try:
            store = torch.distributed.TCPStore(address, int(port), world_size, rank == 0, timeout=LONGEST_WAIT)
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise UsageError(
                f"the other workers of WORLD_SIZE={world_size} did not come to MASTER_ADDR={address} MASTER_PORT={port} "
                f"({reason}): start all workers, with torchrun, or unset {' '.join(VARIABLES)} to train in one process"
            ) from None
        join(backend, store=store, world_size=world_size, rank=rank, **options)

    with replaced(torch.distributed, "init_process_group", init_process_group):
        yield
