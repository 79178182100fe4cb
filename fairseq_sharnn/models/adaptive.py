"""Large vocabularies: fairseq's adaptive softmax, its bands tied to adaptive input embeddings."""

import logging
from typing import List, Optional, Tuple

import torch
from fairseq.modules import AdaptiveInput, AdaptiveSoftmax
from torch.nn.functional import cross_entropy

from fairseq_sharnn.errors import UsageError

logger = logging.getLogger(__name__)

LARGEST_PLAIN_VOCABULARY = 50_000
SPECIAL_SYMBOLS = 4  # fairseq's own, the first of every dictionary: padding must be in the first band


def cutoffs_of(option: Optional[str], vocab: int) -> List[int]:
    """Where the bands end, from `--adaptive-softmax-cutoff`; empty without it. Raises UsageError when it cannot be."""
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


def adaptive_parts(cfg, vocab: int, padding: int) -> Tuple[Optional[AdaptiveInput], Optional[AdaptiveSoftmax]]:
    """Embedding and softmax in bands of a vocabulary sorted by frequency, or (None, None) without cutoffs.

    Band i has embeddings of width D / factor^i, shared by input and output (Baevski & Auli, arXiv 1809.10853); the
    projections are shared with `--tie-adaptive-proj`. Raises UsageError naming the option that does not fit.
    """
    cutoffs = cutoffs_of(cfg.adaptive_softmax_cutoff, vocab)
    width, factor = cfg.decoder_embed_dim, cfg.adaptive_softmax_factor
    if not cutoffs:
        if vocab > LARGEST_PLAIN_VOCABULARY:
            logger.warning(
                f"a plain softmax over {vocab:,} symbols takes much memory and time: use --adaptive-softmax-cutoff "
                "20000,60000 (numbers that fit your vocabulary) --criterion adaptive_loss --ddp-backend legacy_ddp"
            )
        return None, None
    if factor < 1 or width < factor ** len(cutoffs):
        raise UsageError(
            f"--adaptive-softmax-factor {factor} leaves the last of {len(cutoffs) + 1} bands no column of "
            f"--decoder-embed-dim {width}: choose it from 1 up, or give fewer cutoffs"
        )
    if not 0.0 <= cfg.adaptive_softmax_dropout < 1.0:
        raise UsageError(f"--adaptive-softmax-dropout must be in [0, 1), but it is {cfg.adaptive_softmax_dropout}")
    embed = AdaptiveInput(vocab, padding, width, factor, width, cutoffs)
    softmax = AdaptiveSoftmax(
        vocab,
        width,
        cutoffs,
        cfg.adaptive_softmax_dropout,
        factor=factor,
        adaptive_inputs=embed,
        tie_proj=cfg.tie_adaptive_proj,
    )
    for band in embed.embeddings:
        band.register_forward_hook(_in_type_of_weights)
    with torch.no_grad():
        for band, _ in list(embed.embeddings)[1:]:  # fairseq zeroes a row in each, but padding is in the first alone
            band.weight[padding].normal_(std=band.weight.shape[1] ** -0.5)
        # fairseq leaves these to whatever the memory held
        for module in [embed, *softmax.modules()]:
            if hasattr(module, "_float_tensor"):
                module._float_tensor.zero_()
    return embed, softmax


def _in_type_of_weights(band, inputs, embedded: torch.Tensor) -> torch.Tensor:
    """fairseq puts the bands together in the embedding's type; under autocast their projections answer in another."""
    return embedded.to(band[0].weight.dtype)


def losses_in_bands(softmax: AdaptiveSoftmax, features: torch.Tensor, target: torch.Tensor, padding: int):
    """-ln p of N targets (0 for padding), in float32: [N]."""
    logits, numbers = softmax(features, target)
    _, places = softmax.adapt_target(target)
    losses = cross_entropy(logits[0], numbers[0], ignore_index=padding, reduction="none")
    for place, band, number in zip(places, logits[1:], numbers[1:]):
        if number is not None:
            losses = losses.index_add(0, place, cross_entropy(band, number, reduction="none"))
    return losses
