"""The training stream: an epoch that can be stopped anywhere and resumed, in the same lanes or in others."""

import logging
from typing import Any, Callable, Dict, List, Optional

import torch
from fairseq.data import Dictionary

from fairseq_sharnn.data.corpora.base import Corpus
from fairseq_sharnn.data.streams.carrier import Rebuild, Restore, StreamCarrier
from fairseq_sharnn.data.streams.dataset import StreamDataset
from fairseq_sharnn.data.streams.iterator import StreamIterator
from fairseq_sharnn.data.streams.plan import TrainingPlan
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.modules.stream_state import join_saved, slice_saved

logger = logging.getLogger(__name__)


class TrainingStream(StreamIterator):
    """Chunks to train on. `state_dict` holds the plan of the epoch, the place in it, and every lane's state.

    Args:
        plan_of: the plan of an epoch, as the present configuration has it.
        my_lanes: which of all lanes are this worker's.
        warmup: bytes to read before a lane's position when its state must be rebuilt.
        keep_state: write the lanes' state to checkpoints. Without it, a resume rebuilds the state.
    """

    def __init__(
        self,
        corpus: Corpus,
        dictionary: Dictionary,
        plan_of: Callable[[int], TrainingPlan],
        my_lanes: slice,
        warmup: int,
        keep_state: bool,
        epoch: int,
        num_workers: int,
    ):
        plan = plan_of(epoch)
        dataset = _chunks_of(plan, corpus, dictionary, my_lanes)
        super().__init__(dataset, StreamCarrier(keep_whole_update=True), epoch, num_workers)
        self._corpus = corpus
        self._dictionary = dictionary
        self._plan_of = plan_of
        self._my_lanes = my_lanes
        self._warmup = warmup
        self._keep_state = keep_state
        self._gathered: Optional[Dict[str, Any]] = None
        self._plan, self._plan_epoch = plan, epoch

    def dataset_of(self, epoch: int) -> StreamDataset:
        if epoch != self._plan_epoch:
            self._follow(self._plan_of(epoch), epoch)
        return self.dataset

    def _follow(self, plan: TrainingPlan, epoch: int) -> None:
        """Read this worker's chunks of a plan."""
        self.dataset = _chunks_of(plan, self._corpus, self._dictionary, self._my_lanes)
        self._plan, self._plan_epoch = plan, epoch

    def gather_state(self, workers: int, rank: int, group: Any) -> None:
        """Send every worker's lanes to rank 0, before it writes a checkpoint. All workers call this together."""
        if not self._keep_state or self.end_of_epoch():
            self._gathered = None
            return
        state = self.carrier.saved(self.iterations_in_epoch)
        if state is None:
            logger.warning("no model has run in this stream: the checkpoint is written without its state")
        parts: Optional[List[Optional[Dict[str, Any]]]] = [state]
        if workers > 1:
            parts = [None] * workers if rank == 0 else None
            torch.distributed.gather_object(state, parts, dst=0, group=group)
        self._gathered = join_saved(parts) if parts and all(part is not None for part in parts) else None

    def state_dict(self) -> Dict[str, Any]:
        state = super().state_dict()
        if state["iterations_in_epoch"] > 0:
            state["stream"] = {"plan": self._plan.to_dict(), "state": self._gathered}
        self._gathered = None
        return state

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Resume where the checkpoint stopped. In other lanes or chunks, what is unread is cut anew.

        Raises UsageError when the corpus is not the one that was being read.
        """
        stream = state.get("stream")
        if stream is None:
            if state.get("iterations_in_epoch", 0) > 0:
                raise UsageError(
                    "the checkpoint was written in the middle of an epoch by a model that does not read streams: begin an "
                    "epoch with --reset-dataloader --reset-meters"
                )
            super().load_state_dict(state)
            return
        self.epoch = state["epoch"]
        chunk, saved = state["iterations_in_epoch"], TrainingPlan.from_dict(stream["plan"])
        wanted, units = self._plan_of(self.epoch), f"{self._corpus.unit}s"
        if (saved.size, saved.fingerprint) != (wanted.size, wanted.fingerprint):
            raise UsageError(
                f"{self._corpus.path} has changed since the checkpoint was written in the middle of an epoch "
                f"({saved.size:,} {units} then, {wanted.size:,} now): put the old file back, or begin an epoch "
                "of the new one with --reset-dataloader --reset-meters (which forgets the best loss on the old one)"
            )
        if saved.same_reading(wanted):
            self._resume(saved, chunk, stream["state"])
            return
        plan = saved.cut_anew(chunk, wanted, self._warmup)
        jitter = "" if (plan.seed is None) == (saved.seed is None) else ", with other jitter"
        logger.info(
            f"resuming epoch {self.epoch} in {plan.lanes} lanes of chunks of {plan.length} {units} (it was "
            f"{saved.lanes} of {saved.length}{jitter}): what is unread is cut anew, and the state of each lane is rebuilt "
            f"from the {plan.warmup:,} {units} before it"
        )
        self._resume(plan, 0, None)

    def _resume(self, plan: TrainingPlan, chunk: int, state: Optional[Dict[str, Any]]) -> None:
        """Begin at a chunk of a plan, with the lanes' saved state, or with one to be rebuilt."""
        self._follow(plan, self.epoch)
        if chunk >= len(self.dataset):  # nothing is left of this epoch
            self.epoch += 1
            self._next_epoch_itr = None
            return
        self._next_epoch_itr = self._get_iterator_for_epoch(self.epoch, shuffle=False, offset=chunk)
        if state is not None:
            self.carrier.start = Restore(chunk, slice_saved(state, self._my_lanes))
        elif self.dataset.columns(chunk)[0] > 0:
            if chunk > 0:
                logger.info("the checkpoint holds no stream state: it is rebuilt by reading back in each lane")
            dataset, warmup, length = self.dataset, self._warmup, plan.length
            self.carrier.start = Rebuild(chunk, lambda: dataset.before(chunk, warmup, length))


def _chunks_of(plan: TrainingPlan, corpus: Corpus, dictionary: Dictionary, my_lanes: slice) -> StreamDataset:
    return StreamDataset(corpus, dictionary, plan.lane_plan, plan.ends, my_lanes, first_column=plan.warmup)
