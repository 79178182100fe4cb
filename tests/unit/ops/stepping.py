"""Networks with random parameters, and their single steps."""

import torch
from torch import nn

from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNSizes
from fairseq_sharnn.portable.network import NO_DROPOUT


def randomised(sizes: SHARNNSizes, layer_norm=nn.LayerNorm) -> SHARNN:
    torch.manual_seed(1)
    network = SHARNN(sizes, NO_DROPOUT, layer_norm).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


@torch.no_grad()
def read(network: SHARNN, tokens: torch.Tensor, state=None):
    """Logits [T, B, V] of single steps, and the state after them."""
    logits = []
    for step in tokens.split(1):
        features, state = network(step, state)
        logits.append(network.logits(features))
    return torch.cat(logits), state
