"""The network of an exported model, in torch only."""

from typing import Any, Dict, Union

import torch
from torch import Tensor, nn

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNDropout, SHARNNSizes, StreamNetwork
from fairseq_sharnn.portable.config import PortableConfig
from fairseq_sharnn.portable.outputs import AdaptiveEmbedding, AdaptiveOutput, TiedOutput

QUANTIZE = "python -m fairseq_sharnn export CHECKPOINT OUT --int8"
NO_DROPOUT = SHARNNDropout(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class BandedNetwork(StreamNetwork):
    """SHA-RNN on embeddings in bands."""

    def __init__(self, sizes: SHARNNSizes, embed: AdaptiveEmbedding):
        super().__init__(sizes, NO_DROPOUT, checkpoint_activations=False)
        self.blocks = self.make_blocks(nn.LayerNorm)
        self.embed = embed


class RefusesQuantization:
    """A module whose layers read their weights as tensors, which those of `torch.ao.quantization` do not have.

    torch sets `qconfig` on each module first. Raises UsageError then, before a layer is replaced.
    """

    @property
    def qconfig(self) -> None:
        return None

    @qconfig.setter
    def qconfig(self, value: Any) -> None:
        raise UsageError(f"torch.ao.quantization does not fit this model: for 8 bits, make ONNX graphs with {QUANTIZE}")


class PortableNetwork(RefusesQuantization, nn.Module):
    """`network` goes from ids to features, with explicit state; `output` from features to log probabilities.

    Its `state_dict` has the names of model.safetensors.
    """

    def __init__(self, config: PortableConfig):
        super().__init__()
        self.network: StreamNetwork
        self.output: Union[TiedOutput, AdaptiveOutput]
        if config.adaptive is None:
            self.network = SHARNN(config.sizes, NO_DROPOUT)
            self.output = TiedOutput(self.network)
        else:
            embed = AdaptiveEmbedding(config.sizes.vocab, config.sizes.width, config.adaptive)
            self.network = BandedNetwork(config.sizes, embed)
            self.output = AdaptiveOutput(embed, config.adaptive)


def build(config: PortableConfig, tensors: Dict[str, Tensor], path: str) -> PortableNetwork:
    """The network with the given weights, collapsed for inference.

    path: for messages. Raises UsageError if the weights are not those of the configuration.
    """
    with torch.device("meta"):
        module = PortableNetwork(config)
    expected = module.state_dict()
    missing, extra = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or extra:
        what = f"lacks {missing[0]}" if missing else f"has {extra[0]}, which the configuration does not know"
        raise UsageError(f"{path} {what}: it is of another model than its configuration; export the checkpoint again")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise UsageError(
                f"{path} has {name} as {list(tensor.shape)}, but the configuration asks for {list(expected[name].shape)}: "
                "it is of another model; export the checkpoint again"
            )
    module.load_state_dict(tensors, assign=True)
    module.requires_grad_(config.trainable)
    module.eval()
    module.network.collapse()
    return module
