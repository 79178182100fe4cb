"""Truncated BPTT: chunks of lanes, in order, with state carried from one to the next."""

from typing import Any, Dict, Iterator, Optional

import torch
from fairseq.data import iterators

from fairseq_sharnn.data.streams.ahead import made_ahead
from fairseq_sharnn.data.streams.carrier import StreamCarrier, StreamChunk
from fairseq_sharnn.data.streams.dataset import StreamDataset

Sample = Dict[str, Any]


class StreamIterator(iterators.EpochBatchIterator):
    """fairseq's epoch iterator over streams: every worker reads every chunk, each its own lanes.

    So all workers have the same number of chunks, and of columns in each. The iterator owns the position in the stream
    and the carrier of the state. Each pass has a new carrier. As it stands, every epoch is a pass over the same
    dataset: evaluation.
    """

    def __init__(self, dataset: StreamDataset, carrier: StreamCarrier, epoch: int, num_workers: int):
        super().__init__(
            dataset=dataset,
            collate_fn=None,
            batch_sampler=(),
            num_workers=num_workers,
            epoch=epoch,
            disable_shuffling=True,
        )
        self.carrier = carrier

    def dataset_of(self, epoch: int) -> StreamDataset:
        """What is read in an epoch."""
        return self.dataset

    @property
    def frozen_batches(self) -> range:
        return range(len(self.dataset))

    @property
    def first_batch(self) -> Sample:
        """Chunk 0 with a new carrier: fairseq's dummy batch never touches a stream."""
        return _with_carrier(self.dataset[0], StreamCarrier())

    def __len__(self) -> int:
        return len(self.dataset)

    def _get_iterator_for_epoch(
        self, epoch: int, shuffle: bool, fix_batches_to_gpus: bool = False, offset: int = 0
    ) -> Optional[iterators.CountingIterator]:
        self.dataset = self.dataset_of(epoch)
        if offset > 0 and offset >= len(self.dataset):
            return None
        self.carrier = self.carrier.emptied()
        return iterators.CountingIterator(_Chunks(self.dataset, offset, self.num_workers, self.carrier), start=offset)


def feeds_gpu() -> bool:
    """Whether chunks go to a GPU: they are pinned and made ahead of time. (With --cpu no GPU has been started.)"""
    return torch.cuda.is_initialized()


class _Chunks:
    """The chunks from `offset` on, loaded by torch's DataLoader, each with the carrier of this pass.

    For a GPU the next chunk is made while it works on the last one: in a thread, or in loader processes if there are any.
    """

    def __init__(self, dataset: StreamDataset, offset: int, num_workers: int, carrier: StreamCarrier):
        self._loader = torch.utils.data.DataLoader(
            dataset,
            batch_size=None,
            sampler=range(offset, len(dataset)),
            collate_fn=_as_it_is,
            num_workers=num_workers,
            pin_memory=feeds_gpu(),
        )
        self._ahead = feeds_gpu() and num_workers == 0
        self._carrier = carrier

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Sample]:
        for sample in made_ahead(self._loader) if self._ahead else self._loader:
            yield _with_carrier(sample, self._carrier)


def _as_it_is(sample: Any) -> Any:
    return sample


def _with_carrier(sample: Sample, carrier: StreamCarrier) -> Sample:
    """Make the chunk's plain values a StreamChunk. Not earlier: loader processes cannot share a carrier."""
    sample["net_input"]["stream"] = StreamChunk(**sample["net_input"]["stream"], carrier=carrier)
    return sample
