"""Truncated BPTT: chunks of lanes, in order, with state carried from one to the next."""

from typing import Callable, Dict, Iterator

import torch
from fairseq.data import iterators

from fairseq_sharnn.data.streams.carrier import StreamCarrier, StreamChunk
from fairseq_sharnn.data.streams.dataset import StreamDataset


class StreamIterator(iterators.EpochBatchIterator):
    """fairseq's epoch iterator over streams: every worker reads every chunk, each its own lanes.

    So all workers have the same number of chunks and of columns in each. The iterator owns the position in the stream
    and the carrier of the state; a new pass makes both afresh. This one makes evaluating passes.
    """

    training = False

    def __init__(self, make_dataset: Callable[[int], StreamDataset], epoch: int, num_workers: int):
        super().__init__(
            dataset=make_dataset(epoch),
            collate_fn=None,
            batch_sampler=(),
            num_workers=num_workers,
            epoch=epoch,
            disable_shuffling=True,
        )
        self._make_dataset = make_dataset
        self._dataset_epoch = epoch
        self.carrier = StreamCarrier()

    @property
    def frozen_batches(self):
        return range(len(self.dataset))

    @property
    def first_batch(self) -> Dict:
        """Chunk 0 with a carrier of its own: fairseq's dummy batch never touches a stream."""
        return _with_carrier(self.dataset[0], StreamCarrier(), training=False)

    def __len__(self) -> int:
        return len(self.dataset)

    def _get_iterator_for_epoch(self, epoch, shuffle, fix_batches_to_gpus=False, offset=0):
        if epoch != self._dataset_epoch:
            self.dataset, self._dataset_epoch = self._make_dataset(epoch), epoch
        if offset > 0 and offset >= len(self.dataset):
            return None
        self.carrier = StreamCarrier()
        chunks = _Chunks(self.dataset, offset, self.num_workers, self.carrier, self.training)
        return iterators.CountingIterator(chunks, start=offset)


class _Chunks:
    """The chunks from `offset` on, loaded by torch's DataLoader, each with the carrier of this pass."""

    def __init__(self, dataset: StreamDataset, offset: int, workers: int, carrier: StreamCarrier, training: bool):
        self._loader = torch.utils.data.DataLoader(
            dataset,
            batch_size=None,
            sampler=range(offset, len(dataset)),
            collate_fn=_as_it_is,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
        )
        self._carrier = carrier
        self._training = training

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Dict]:
        for sample in self._loader:
            yield _with_carrier(sample, self._carrier, self._training)


def _as_it_is(sample: Dict) -> Dict:
    return sample


def _with_carrier(sample: Dict, carrier: StreamCarrier, training: bool) -> Dict:
    sample["net_input"]["stream"] = StreamChunk(**sample["net_input"]["stream"], carrier=carrier, training=training)
    return sample
