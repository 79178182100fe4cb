"""What a GPU needs that fairseq does not do: settings before it starts, checks of the card, and one line at the start."""

import logging
import os
import warnings
from typing import Any

import torch
from fairseq.data import iterators
from fairseq.trainer import Trainer
from torch import nn

from fairseq_sharnn.compat.patching import patch, replaced
from fairseq_sharnn.data.streams.iterator import feeds_gpu
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.modules.sha_rnn import StreamNetwork
from fairseq_sharnn.portable.gpu import (
    ANOTHER_TORCH,
    BFLOAT16_CUDNN,
    Card,
    Training,
    lstm_in_words,
    refusal,
    training_bytes,
)

logger = logging.getLogger(__name__)

_ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
# How memory that is missing is named by CUDA, cuBLAS and cuDNN.
_OUT_OF_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def use_expandable_segments() -> None:
    """Chunks of varied length leave gaps in the allocator's fixed segments. Segments that grow do not, and torch reads
    this setting when CUDA starts. The user's own setting stays. Test: test_gpu_start.py.
    """
    if torch.version.cuda and not torch.cuda.is_initialized() and not any(name in os.environ for name in _ALLOCATOR):
        os.environ[_ALLOCATOR[0]] = "expandable_segments:True"


def pin_for_gpus_only() -> None:
    """fairseq pins the memory of every batch. Without a GPU torch warns of it, and with --cpu it starts the GPU.
    Test: test_gpu_start.py.
    """

    @patch(iterators.EpochBatchIterator, "_get_iterator_for_epoch")
    def _get_iterator_for_epoch(original, self, *args, **kwargs):
        loader = torch.utils.data.DataLoader

        def pinned_for_gpus(*parts, pin_memory=False, **options):
            return loader(*parts, pin_memory=pin_memory and feeds_gpu(), **options)

        with replaced(torch.utils.data, "DataLoader", pinned_for_gpus):
            return original(self, *args, **kwargs)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU, or one of its libraries, had no memory left."""
    return any(name in str(error) for name in _OUT_OF_MEMORY)


def check_cards() -> None:
    """Raises UsageError if torch sees a card that it, or cuDNN, cannot use: otherwise the first LSTM ends in a traceback."""
    why = refusal() if torch.cuda.is_available() else None
    if why is not None:
        raise UsageError(
            f"this torch cannot use a GPU that it sees ({why}): hide the GPU with CUDA_VISIBLE_DEVICES, use --cpu, or "
            f"{ANOTHER_TORCH}"
        )


def start_in_one_line() -> None:
    """Training on a GPU logs what runs the LSTMs and how much memory to expect. For bfloat16 the LSTM weights are made
    one piece, as torch does for other types only, and if cuDNN cannot run them, torch's own LSTM does.
    Test: test_gpu_start.py.
    """

    @patch(Trainer, "__init__")
    def __init__(original, self, *args, **kwargs):
        original(self, *args, **kwargs)
        network = getattr(getattr(self._model, "decoder", None), "network", None)
        if not is_on_gpu(self) or not isinstance(network, StreamNetwork):
            return
        cudnn = torch.backends.cudnn.version() or 0
        prepare_lstms(self._model, self.device, cudnn)
        if network.rates.dropconnect > 0:  # its weights are new in each chunk, so never one piece
            warnings.filterwarnings("ignore", r"\s*RNN module weights are not part of single contiguous chunk")
        if self.is_data_parallel_master:
            logger.info(start_line(self.cfg, self._model, Card.of(), cudnn))


def is_on_gpu(trainer: Trainer) -> bool:
    """Whether a trainer of fairseq trains on a GPU."""
    return trainer.cuda


def prepare_lstms(model: nn.Module, device: torch.device, cudnn: int) -> None:
    """Make bfloat16 LSTM weights one piece, if cuDNN runs such an LSTM. Where it should and fails, turn cuDNN off."""
    layers = [module for module in model.modules() if isinstance(module, nn.LSTM)]
    if not layers or layers[0].weight_hh_l0.dtype != torch.bfloat16 or cudnn < BFLOAT16_CUDNN:
        return
    torch.backends.cudnn.CUDNN_TENSOR_DTYPES.add(torch.bfloat16)  # now moving a layer to the GPU flattens it, too
    try:
        try_lstm(layers[0].hidden_size, device)
        for layer in layers:
            layer.flatten_parameters()
    except RuntimeError as error:
        logger.warning(
            f"cuDNN does not run an LSTM in bfloat16 here ({str(error).splitlines()[0]}): torch's own LSTM runs instead, "
            "which is slow; with --fp16 cuDNN runs it"
        )
        torch.backends.cudnn.CUDNN_TENSOR_DTYPES.discard(torch.bfloat16)
        torch.backends.cudnn.enabled = False


def try_lstm(width: int, device: torch.device) -> None:
    """Run two steps of a bfloat16 LSTM and their gradient. Raises RuntimeError if that fails."""
    layer = nn.LSTM(width, width, dtype=torch.bfloat16, device=device)
    out, _ = layer(torch.zeros(2, 8, width, dtype=torch.bfloat16, device=device))
    torch.autograd.grad(out.sum(), list(layer.parameters()))


def start_line(cfg: Any, model: nn.Module, card: Card, cudnn: int) -> str:
    """The card, what runs the LSTMs and why, and the estimate of memory. cudnn: version as torch counts it."""
    common, sizes = cfg.common, model.decoder.network.sizes
    length = cfg.task.tokens_per_sample
    lanes = cfg.dataset.batch_size or max(1, (cfg.dataset.max_tokens or 8 * length) // length)
    training = Training(
        lanes,
        length,
        _kind(common),
        _bytes_a_parameter(common),
        bool(model.decoder.network.checkpoint_activations),
    )
    lstm = "torch's own LSTM, a step at a time (cuDNN is off)"
    if torch.backends.cudnn.enabled:
        lstm = lstm_in_words(training.kind, sizes.width, lanes, card, cudnn)
    needed = training_bytes(sizes, sum(parameter.numel() for parameter in model.parameters()), training)
    return (
        f"{card}; the LSTMs ({training.kind}, D {sizes.width}, {lanes} lanes) run on {lstm}; estimated memory "
        f"{needed / 1e9:.1f} GB of {card.memory / 1e9:.1f} GB"
    )


def _kind(common: Any) -> str:
    """The type of the activations on a GPU."""
    if common.fp16 or common.memory_efficient_fp16 or common.amp:
        return "float16"
    return "bfloat16" if common.bf16 or common.memory_efficient_bf16 else "float32"


def _bytes_a_parameter(common: Any) -> int:
    """Weights, gradients, master weights and two float32 moments. --amp also holds a cast copy of each weight."""
    if common.memory_efficient_fp16 or common.memory_efficient_bf16:
        return 12
    return 18 if common.amp else 16
