"""Dynamic evaluation inside fairseq: samples name the pass they belong to, and whoever scores one lets the model learn."""

from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional

import torch
from fairseq.data import iterators
from torch import Tensor

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.evaluation.dynamic import DynamicSettings, Learner
from fairseq_sharnn.models.adaptive import losses_in_bands

LEARNING = "learning"  # the sample's key


class LearningPass:
    """One pass over a split in which a model learns from each batch after it is scored.

    The model has its trained weights again after the last batch, and after an error.
    """

    def __init__(self, settings: DynamicSettings, batches: int):
        self.settings = settings
        self._left = batches
        self._learner: Optional[Learner] = None

    @contextmanager
    def batch(self, model: Any, count: int) -> Iterator[List[Tensor]]:
        """Score one batch inside, with gradients, and put the sum of its loss into the list: the model learns from it.

        count: how many targets are scored.
        """
        if self._learner is None:
            self._learner = Learner(model, self.settings)
        total: List[Tensor] = []
        try:
            with torch.enable_grad():
                yield total
            if count > 0:
                self._learner.learn(total[0] / count)
        except BaseException:
            self.close()
            raise
        self._left -= 1
        if self._left == 0:
            self.close()

    def close(self) -> None:
        """Give the model its trained weights back."""
        if self._learner is not None:
            self._learner.restore()


class LearningBatches:
    """The batches of a pass, each with the pass as its `LEARNING`. Closing or dropping the iterator ends the pass."""

    def __init__(self, batches: Any, settings: DynamicSettings):
        self._batches, self._settings = batches, settings

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        learning = LearningPass(self._settings, len(self._batches))
        try:
            for sample in self._batches:
                yield {**sample, LEARNING: learning}
        finally:
            learning.close()


class LearningIterator:
    """What fairseq-validate takes for an epoch iterator: each pass is one of dynamic evaluation."""

    def __init__(self, iterator: iterators.EpochBatchIterator, settings: DynamicSettings):
        self._iterator, self._settings = iterator, settings

    def next_epoch_itr(self, **options) -> iterators.CountingIterator:
        batches = self._iterator.next_epoch_itr(**options)
        return iterators.CountingIterator(LearningBatches(batches, self._settings))


def score_and_learn(scorer: Any, models: List[Any], sample: Dict[str, Any]) -> List[List[Dict[str, Any]]]:
    """What fairseq's `SequenceScorer.generate` returns, from the same forward pass that the model learns from.

    Raises UsageError for several models.
    """
    if len(models) > 1:
        raise UsageError(f"--dynamic-lr lets one model learn, but --path names {len(models)}: name one")
    targets = sample["target"]
    scored = targets.ne(scorer.pad)
    with sample[LEARNING].batch(models[0], int(scored.sum())) as total:
        log_probs = target_log_probs(models[0], sample, scorer.softmax_batch, scorer.pad)  # [B, T]
        total.append(-log_probs[scored].sum())
    log_probs = log_probs.detach()
    return [[_hypothesis(row[own], line[own])] for row, line, own in zip(targets, log_probs, scored)]


def _hypothesis(tokens: Tensor, log_probs: Tensor) -> Dict[str, Any]:
    return {
        "tokens": tokens,
        "score": log_probs.sum() / log_probs.numel(),
        "attention": None,
        "alignment": None,
        "positional_scores": log_probs,
    }


def target_log_probs(model: Any, sample: Dict[str, Any], softmax_batch: int, pad: int) -> Tensor:
    """log p [B, T] in float32 of a sample's targets, with gradient; 0 or any number for padding.

    softmax_batch: rows in one softmax. fairseq's own way through an adaptive softmax has no gradient.
    """
    output, *rest = model(**sample["net_input"])
    targets = sample["target"]
    softmax = getattr(model.decoder, "adaptive_softmax", None)
    if softmax is not None:
        return -losses_in_bands(softmax, output, targets.reshape(-1), pad).view_as(targets)
    parts = []
    for rows, of in zip(output.flatten(0, 1).split(softmax_batch), targets.flatten().split(softmax_batch)):
        log_probs = model.get_normalized_probs((rows.unsqueeze(0), *rest), log_probs=True, sample=sample)
        parts.append(log_probs.squeeze(0).gather(1, of.unsqueeze(1)).squeeze(1))
    return torch.cat(parts).view_as(targets)
