"""Patches to fairseq's losses."""

import torch
from fairseq.criterions.adaptive_loss import AdaptiveLoss
from fairseq.modules import AdaptiveSoftmax
from fairseq.sequence_scorer import SequenceScorer

from fairseq_sharnn.compat.patching import patch
from fairseq_sharnn.evaluation.learning import LEARNING, score_and_learn
from fairseq_sharnn.models.adaptive import losses_in_bands


def count_every_target() -> None:
    """fairseq takes number 1 of every band for padding, although the bands after the first are numbered from 0. So one
    symbol of each gets no loss. It also sums the loss in half precision, which ends at 65504: 16 x 1024 targets of a
    fresh model cost more. The patch: padding is only in the first band, and bands answer in float32, to the scorer too.
    Test: tests/unit/models/test_adaptive.py.
    """

    @patch(AdaptiveSoftmax, "__init__")
    def __init__(original, self, *args, **kwargs):
        original(self, *args, **kwargs)
        for band in (self.head, *self.tail):
            band.register_forward_hook(_in_float32)

    @patch(AdaptiveLoss, "forward")
    def forward(original, self, model, sample, reduce=True):
        output = model(**sample["net_input"])
        target = model.get_targets(sample, output)
        loss = losses_in_bands(model.decoder.adaptive_softmax, output[0], target.view(-1), self.padding_idx)
        loss = loss.sum().view(1) if reduce else loss
        ntokens = int(target.ne(self.padding_idx).sum())
        sample_size = target.size(0) if self.sentence_avg else ntokens
        counts = {"ntokens": ntokens, "nsentences": target.size(0), "sample_size": sample_size}
        return loss, sample_size, {"loss": loss.data, **counts}


def learn_from_what_is_scored() -> None:
    """fairseq-eval-lm scores without gradients, so dynamic evaluation would need each forward pass twice. The patch: a
    sample of such a pass is scored with gradients, and the model learns from it. Test: test_dynamic_evaluation.py.
    """

    @patch(SequenceScorer, "generate")
    def generate(original, self, models, sample, **kwargs):
        if LEARNING in sample:
            return score_and_learn(self, models, sample)
        return original(self, models, sample, **kwargs)


def _in_float32(module, inputs, logits: torch.Tensor) -> torch.Tensor:
    return logits.float()
