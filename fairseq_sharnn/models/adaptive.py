"""Large vocabularies: fairseq's adaptive softmax, its bands tied to adaptive input embeddings."""

import logging
from typing import List, Optional

import torch
from fairseq.modules import AdaptiveInput, AdaptiveSoftmax
from torch import Tensor
from torch.nn.functional import cross_entropy

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.models.decoder import StreamDecoder
from fairseq_sharnn.modules.layer_norm import LayerNormFactory
from fairseq_sharnn.modules.sha_rnn import SHARNNDropout, SHARNNSizes, StreamNetwork

logger = logging.getLogger(__name__)

LARGEST_PLAIN_VOCABULARY = 50_000
SPECIAL_SYMBOLS = 4  # fairseq's own, the first of each dictionary: padding must be in the first band


class AdaptiveNetwork(StreamNetwork):
    """SHA-RNN on embeddings in bands. They keep the initial values that fairseq gives them."""

    def __init__(
        self,
        sizes: SHARNNSizes,
        rates: SHARNNDropout,
        layer_norm: LayerNormFactory,
        checkpoint_activations: bool,
        embed: AdaptiveInput,
    ):
        super().__init__(sizes, rates, checkpoint_activations)
        self.blocks = self.make_blocks(layer_norm)
        self.reset_parameters()
        self.embed = embed


class AdaptiveDecoder(StreamDecoder):
    """An output in bands. fairseq's `adaptive_loss` and its scorer take features and compute the bands themselves."""

    def __init__(self, dictionary, network: AdaptiveNetwork, softmax: AdaptiveSoftmax):
        super().__init__(dictionary, network)
        self.adaptive_softmax = softmax

    def output_layer(self, features: Tensor, **unused) -> Tensor:
        return features

    def logits(self, features: Tensor) -> Tensor:
        log_probs = self.adaptive_softmax.get_log_prob(features.reshape(1, -1, features.size(-1)), None)
        return log_probs.view(*features.shape[:-1], -1)


def cutoffs_of(option: Optional[str], vocab: int) -> List[int]:
    """Where the bands end, from `--adaptive-softmax-cutoff`; empty without it. Raises UsageError if it does not fit."""
    if not option:
        return []
    try:
        cutoffs = [int(number) for number in str(option).strip("[]() ").split(",")]
    except ValueError:
        cutoffs = []
    if not cutoffs or cutoffs[0] < 1 or any(a >= b for a, b in zip(cutoffs, cutoffs[1:])):
        raise UsageError(f"--adaptive-softmax-cutoff takes rising numbers such as 2000,10000, not {option}")
    if cutoffs[-1] >= vocab:
        raise UsageError(
            f"--adaptive-softmax-cutoff {option} goes past the vocabulary of {vocab} symbols: leave out what is not below"
        )
    if cutoffs[0] <= SPECIAL_SYMBOLS:
        raise UsageError(
            f"--adaptive-softmax-cutoff {option} leaves the first band no more than fairseq's {SPECIAL_SYMBOLS} special "
            f"symbols: begin with {SPECIAL_SYMBOLS + 1} or more"
        )
    if any(stop - start < 2 for start, stop in zip(cutoffs, [*cutoffs[1:], vocab])):
        raise UsageError(
            f"--adaptive-softmax-cutoff {option} leaves a band of the {vocab} symbols with a single one: bands have two or "
            "more"
        )
    return cutoffs


def recommend_bands(vocab: int) -> None:
    """Warn of a plain softmax over many symbols."""
    if vocab > LARGEST_PLAIN_VOCABULARY:
        logger.warning(
            f"a plain softmax over {vocab:,} symbols takes much memory and time: use --adaptive-softmax-cutoff "
            "20000,60000 (numbers that fit your vocabulary) --criterion adaptive_loss --ddp-backend legacy_ddp"
        )


def embedding_in_bands(cfg, cutoffs: List[int], vocab: int, padding: int) -> AdaptiveInput:
    """The embedding of a vocabulary sorted by frequency (Baevski & Auli, arXiv 1809.10853).

    Band i has embeddings of width D / factor^i. Raises UsageError, naming the option that does not fit.
    """
    width, factor = cfg.decoder_embed_dim, cfg.adaptive_softmax_factor
    if factor < 1 or width < factor ** len(cutoffs):
        raise UsageError(
            f"--adaptive-softmax-factor {factor} leaves the last of {len(cutoffs) + 1} bands no column of "
            f"--decoder-embed-dim {width}: choose it from 1 up, or give fewer cutoffs"
        )
    if not 0.0 <= cfg.adaptive_softmax_dropout < 1.0:
        raise UsageError(f"--adaptive-softmax-dropout must be in [0, 1), but it is {cfg.adaptive_softmax_dropout}")
    return AdaptiveInput(vocab, padding, width, factor, width, cutoffs)


def softmax_in_bands(cfg, embed: AdaptiveInput, cutoffs: List[int], vocab: int, padding: int) -> AdaptiveSoftmax:
    """The output over the same bands. It shares their matrices, and their projections with `--tie-adaptive-proj`."""
    softmax = AdaptiveSoftmax(
        vocab,
        cfg.decoder_embed_dim,
        cutoffs,
        cfg.adaptive_softmax_dropout,
        factor=cfg.adaptive_softmax_factor,
        adaptive_inputs=embed,
        tie_proj=cfg.tie_adaptive_proj,
    )
    for band in embed.embeddings:
        band.register_forward_hook(_in_type_of_weights)
    with torch.no_grad():
        # fairseq zeroes one row in each band, but padding is only in the first
        for band, _ in list(embed.embeddings)[1:]:
            band.weight[padding].normal_(std=band.weight.shape[1] ** -0.5)
        # fairseq does not initialise these buffers
        for module in [embed, *softmax.modules()]:
            if hasattr(module, "_float_tensor"):
                module._float_tensor.zero_()
    return softmax


def _in_type_of_weights(band, inputs, embedded: Tensor) -> Tensor:
    """fairseq joins the bands in the embedding's type. Under autocast their projections answer in another one."""
    return embedded.to(band[0].weight.dtype)


def losses_in_bands(softmax: AdaptiveSoftmax, features: Tensor, target: Tensor, padding: int) -> Tensor:
    """-ln p of N targets (0 for padding), in float32: [N]."""
    logits, numbers = softmax(features, target)
    _, places = softmax.adapt_target(target)
    losses = cross_entropy(logits[0], numbers[0], ignore_index=padding, reduction="none")
    for place, band, number in zip(places, logits[1:], numbers[1:]):
        if number is not None:
            losses = losses.index_add(0, place, cross_entropy(band, number, reduction="none"))
    return losses
