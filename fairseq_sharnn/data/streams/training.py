"""The training stream: an epoch that can be stopped anywhere and gone on with, in the same lanes or in others."""

import logging
from typing import Callable, Dict, Optional

import torch
from fairseq.data import Dictionary

from fairseq_sharnn.data.corpora.base import Corpus
from fairseq_sharnn.data.streams.dataset import StreamDataset
from fairseq_sharnn.data.streams.iterator import StreamIterator
from fairseq_sharnn.data.streams.plan import TrainingPlan
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.modules.stream_state import join_saved, slice_saved

logger = logging.getLogger(__name__)


class TrainingStream(StreamIterator):
    """Chunks to train on; `state_dict` holds the plan of the epoch, the place in it, and every lane's state.

    Args:
        make_plan: the plan of an epoch, as the present configuration has it.
        lanes: which of all lanes are this worker's.
        rows: bytes to read before a lane's position when its state has to be rebuilt.
        keep_state: write the lanes' state to checkpoints; without it, it is rebuilt at a resume.
    """

    training = True

    def __init__(
        self,
        corpus: Corpus,
        dictionary: Dictionary,
        make_plan: Callable[[int], TrainingPlan],
        lanes: slice,
        rows: int,
        keep_state: bool,
        epoch: int,
        num_workers: int,
    ):
        self._corpus = corpus
        self._dictionary = dictionary
        self._make_plan = make_plan
        self._lanes = lanes
        self._rows = rows
        self._keep_state = keep_state
        self._gathered: Optional[Dict] = None
        self._plan: Optional[TrainingPlan] = None
        super().__init__(lambda epoch: self._read(make_plan(epoch)), epoch, num_workers)

    def _read(self, plan: TrainingPlan) -> StreamDataset:
        """This worker's chunks of a plan."""
        self._plan = plan
        return StreamDataset(
            self._corpus, self._dictionary, plan.lane_plan(), plan.ends(), self._lanes, first_column=plan.lead
        )

    def gather_state(self, workers: int, rank: int, group) -> None:
        """Bring every worker's lanes to rank 0, before it writes a checkpoint. All workers call this together."""
        if not self._keep_state or self.end_of_epoch():
            self._gathered = None
            return
        mine = self.carrier.saved(self.iterations_in_epoch)
        if mine is None:
            logger.warning("no model has run in this stream: the checkpoint is written without its state")
        parts = [mine]
        if workers > 1:
            parts = [None] * workers if rank == 0 else None
            torch.distributed.gather_object(mine, parts, dst=0, group=group)
        self._gathered = join_saved(parts) if parts and all(part is not None for part in parts) else None

    def state_dict(self) -> Dict:
        state = super().state_dict()
        if state["iterations_in_epoch"] > 0:
            state["stream"] = {"plan": self._plan.to_dict(), "state": self._gathered}
        self._gathered = None
        return state

    def load_state_dict(self, state: Dict) -> None:
        """Go on where the checkpoint stopped; in other lanes or chunks, with what is unread cut anew.

        Raises UsageError when the corpus is not the one that was being read.
        """
        stream = state.get("stream")
        if stream is None:
            if state.get("iterations_in_epoch", 0) > 0:
                raise UsageError(
                    "the checkpoint was written in the middle of an epoch by something that keeps no streams: begin an "
                    "epoch with --reset-dataloader"
                )
            super().load_state_dict(state)
            return
        self.epoch = state["epoch"]
        chunk, saved = state["iterations_in_epoch"], TrainingPlan.from_dict(stream["plan"])
        wanted, units = self._make_plan(self.epoch), f"{self._corpus.unit}s"
        if (saved.size, saved.fingerprint) != (wanted.size, wanted.fingerprint):
            raise UsageError(
                f"{self._corpus.path} has changed since the checkpoint was written in the middle of an epoch "
                f"({saved.size:,} {units} then, {wanted.size:,} now): put the old file back, or begin an epoch "
                "of the new one with --reset-dataloader"
            )
        if saved.same_reading(wanted):
            self._go_on(saved, chunk, stream["state"])
            return
        plan = saved.cut_anew(chunk, wanted, self._rows)
        jitter = "" if (plan.seed is None) == (saved.seed is None) else ", with other jitter"
        logger.info(
            f"resuming epoch {self.epoch} in {plan.lanes} lanes of chunks of {plan.length} {units} (it was "
            f"{saved.lanes} of {saved.length}{jitter}): what is unread is cut anew, and the state of each lane is rebuilt "
            f"from the {plan.lead:,} {units} before it"
        )
        self._go_on(plan, 0, None)

    def _go_on(self, plan: TrainingPlan, chunk: int, state: Optional[Dict]) -> None:
        """Begin at a chunk of a plan, with the lanes' saved state, or with one to be rebuilt."""
        self.dataset, self._dataset_epoch = self._read(plan), self.epoch
        if chunk >= len(self.dataset):  # nothing is left of this epoch
            self.epoch += 1
            self._next_epoch_itr = None
            return
        self._next_epoch_itr = self._get_iterator_for_epoch(self.epoch, shuffle=False, offset=chunk)
        if state is not None:
            self.carrier.restore(chunk, slice_saved(state, self._lanes))
        elif self.dataset.columns(chunk)[0] > 0:
            if chunk > 0:
                logger.info("the checkpoint holds no stream state: it is rebuilt by reading back in each lane")
            dataset, rows, length = self.dataset, self._rows, plan.length
            self.carrier.rebuild(chunk, lambda: dataset.before(chunk, rows, length))
