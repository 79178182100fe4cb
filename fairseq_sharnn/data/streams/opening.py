"""From a corpus and fairseq's options to a stream: one function for evaluation, one for training."""

from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

from fairseq.data import Dictionary

from fairseq_sharnn.data.corpora.base import Corpus
from fairseq_sharnn.data.streams.carrier import StreamCarrier
from fairseq_sharnn.data.streams.dataset import StreamDataset
from fairseq_sharnn.data.streams.iterator import StreamIterator
from fairseq_sharnn.data.streams.lanes import chunk_ends, evaluation_lanes
from fairseq_sharnn.data.streams.plan import TrainingPlan
from fairseq_sharnn.data.streams.training import TrainingStream
from fairseq_sharnn.errors import UsageError

# The author's test evaluation has 8 lanes. So does ours where no batch size is given.
DEFAULT_LANES = 8


class Worker(NamedTuple):
    """One of several workers that read a corpus together: rank `shard_id` of `num_shards`, and its loader processes."""

    num_shards: int
    shard_id: int
    num_workers: int

    @classmethod
    def of(cls, num_shards: int, shard_id: int, num_workers: int) -> "Worker":
        """A worker as fairseq's options describe it. Raises UsageError for a shard that does not exist.

        Memory-mapped files need no loader process: fairseq's default of one means none here.
        """
        if not 0 <= shard_id < num_shards:
            raise UsageError(f"--shard-id {shard_id} is not one of the {num_shards} of --num-shards: they count from 0")
        return cls(num_shards, shard_id, num_workers if num_workers > 1 else 0)

    def lane_slice(self, lanes: int) -> slice:
        """Which of all workers' lanes are this worker's, when each has `lanes`."""
        return slice(self.shard_id * lanes, (self.shard_id + 1) * lanes)


@dataclass(frozen=True)
class TrainingOptions:
    """How a corpus is cut for training: chunk lengths (jittered from `seed`, or all equal for None) and resumes.

    warmup: how many ids to read before a lane's position when its state must be rebuilt. keep_state: whether
    checkpoints hold the lanes' state.
    """

    length: int
    seed: Optional[int]
    warmup: int
    keep_state: bool


def evaluation_stream(
    corpus: Corpus,
    dictionary: Dictionary,
    length: int,
    lanes: Optional[int],
    warmup: int,
    worker: Worker,
    fresh_lanes: bool = False,
) -> StreamIterator:
    """One pass over a corpus, in chunks of `length`, that scores each id once.

    lanes: of each worker (None: 8, or fewer for a short corpus). warmup: how many ids each lane reads before its stretch.
    fresh_lanes: every lane begins with </s>, as the file does, and not with the id before its stretch. Raises UsageError
    for more lanes than ids.
    """
    lanes = _checked_lanes(corpus, lanes, worker)
    plan = evaluation_lanes(len(corpus), lanes * worker.num_shards, warmup)
    ends = chunk_ends(plan.columns, length, None)
    dataset = StreamDataset(corpus, dictionary, plan, ends, worker.lane_slice(lanes), fresh_lanes=fresh_lanes)
    return StreamIterator(dataset, StreamCarrier(), epoch=1, num_workers=worker.num_workers)


def training_stream(
    corpus: Corpus, dictionary: Dictionary, options: TrainingOptions, lanes: Optional[int], epoch: int, worker: Worker
) -> TrainingStream:
    """The training stream of a corpus from `epoch` on. `lanes`, errors: as for `evaluation_stream`."""
    lanes = _checked_lanes(corpus, lanes, worker)
    total = lanes * worker.num_shards
    everything: Tuple[Tuple[int, int], ...] = ((0, len(corpus)),)
    fingerprint = corpus.fingerprint()

    def plan_of(epoch: int) -> TrainingPlan:
        seed = None if options.seed is None else (options.seed, epoch)
        return TrainingPlan(everything, total, options.length, seed, 0, len(corpus), fingerprint)

    return TrainingStream(
        corpus,
        dictionary,
        plan_of,
        worker.lane_slice(lanes),
        options.warmup,
        options.keep_state,
        epoch,
        worker.num_workers,
    )


def _checked_lanes(corpus: Corpus, lanes: Optional[int], worker: Worker) -> int:
    """Number of lanes of each worker. Raises UsageError when the corpus is shorter than all workers' lanes."""
    if lanes is None:
        lanes = min(DEFAULT_LANES, max(1, len(corpus) // worker.num_shards))
    total = lanes * worker.num_shards
    if len(corpus) < total:
        workers = f" on each of {worker.num_shards} workers" if worker.num_shards > 1 else ""
        raise UsageError(
            f"{corpus.path} has {len(corpus)} {corpus.unit}s, fewer than the {total} lanes of --batch-size {lanes}"
            f"{workers}: lower --batch-size"
        )
    return lanes
