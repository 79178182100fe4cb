"""From features to log probabilities, in torch only: the paper's tied output, and fairseq's adaptive softmax."""

from typing import Any, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_sharnn.portable.config import AdaptiveConfig


class AdaptiveEmbedding(nn.Module):
    """Embeddings in bands of a vocabulary sorted by frequency (Baevski & Auli, arXiv 1809.10853).

    Band i holds embeddings of width D / factor^i and their projection to D.
    """

    def __init__(self, vocab: int, width: int, bands: AdaptiveConfig):
        super().__init__()
        self.ends = band_ends(vocab, bands)
        starts = (0, *self.ends[:-1])
        self.width = width
        self.embeddings: Any = nn.ModuleList(
            nn.Sequential(nn.Embedding(end - start, dim), nn.Linear(dim, width, bias=False))
            for start, end, dim in zip(starts, self.ends, band_widths(width, bands))
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [...] -> [..., D]"""
        weight = self.embeddings[0][0].weight
        result = torch.zeros((*tokens.shape, self.width), dtype=weight.dtype, device=weight.device)
        start = 0
        for end, (table, project) in zip(self.ends, self.embeddings):
            inside = (tokens >= start) & (tokens < end)
            rows = project(table((tokens - start).clamp(0, end - start - 1)))  # [..., D]: a graph without branches
            result = torch.where(inside.unsqueeze(-1), rows, result)
            start = end
        return result


class AdaptiveOutput(nn.Module):
    """log p of a vocabulary in bands: the first band and one class for each of the others, then each band's own softmax.

    It shares the embeddings with the input, and the projections too with `tied_projections`.
    """

    def __init__(self, embed: AdaptiveEmbedding, bands: AdaptiveConfig):
        super().__init__()
        self._bands: List[Any] = list(embed.embeddings)  # a list: the parameters are the embedding's
        self.ends, width = embed.ends, embed.width
        self.classes = nn.Linear(width, len(self.ends) - 1, bias=False)
        self.tails: Optional[Any] = None
        if not bands.tied_projections:
            self.tails = nn.ModuleList(nn.Linear(width, dim, bias=False) for dim in band_widths(width, bands)[1:])

    def log_probs(self, features: Tensor) -> Tensor:
        """log p [N, V] in float32 after features [N, D]."""
        head = self._head(features)
        first = self.ends[0]
        parts = [head[:, :first]]
        for band in range(1, len(self.ends)):
            parts.append(self._tail(band, features) + head[:, first + band - 1, None])
        return torch.cat(parts, dim=1)

    def logits(self, features: Tensor) -> Tensor:
        """Logits [N, V]; here log probabilities, which are logits too."""
        return self.log_probs(features)

    def target_log_probs(self, features: Tensor, targets: Tensor) -> Tensor:
        """log p [N] in float32 of targets [N] after features [N, D]: only the bands of the targets are computed."""
        head, first = self._head(features), self.ends[0]
        found = head.gather(1, targets.clamp(max=first - 1).unsqueeze(1)).squeeze(1)
        for band in range(1, len(self.ends)):
            start = self.ends[band - 1]
            place = ((targets >= start) & (targets < self.ends[band])).nonzero().squeeze(1)
            if len(place):
                own = self._tail(band, features[place]).gather(1, (targets[place] - start).unsqueeze(1)).squeeze(1)
                found = found.index_copy(0, place, own + head[place, first + band - 1])
        return found

    def _head(self, features: Tensor) -> Tensor:
        words = F.linear(features, self._bands[0][0].weight)  # band 0 is as wide as the model
        return torch.cat([words, self.classes(features)], dim=1).float().log_softmax(dim=1)

    def _tail(self, band: int, features: Tensor) -> Tensor:
        table, project = self._bands[band]
        projected = F.linear(features, project.weight.t()) if self.tails is None else self.tails[band - 1](features)
        return F.linear(projected, table.weight).float().log_softmax(dim=1)


class TiedOutput(nn.Module):
    """log p by the embedding's own matrix and a bias (spec, "Model"). It holds no parameters: they are the network's."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self._network: List[Any] = [network]  # a list: the parameters are the network's

    def logits(self, features: Tensor) -> Tensor:
        """Logits [N, V] after features [N, D]."""
        return self._network[0].logits(features)

    def log_probs(self, features: Tensor) -> Tensor:
        """log p [N, V] in float32 after features [N, D]."""
        return self._network[0].logits(features).float().log_softmax(dim=-1)

    def target_log_probs(self, features: Tensor, targets: Tensor) -> Tensor:
        """log p [N] in float32 of targets [N] after features [N, D]."""
        return self.log_probs(features).gather(1, targets.unsqueeze(1)).squeeze(1)


def band_ends(vocab: int, bands: AdaptiveConfig) -> Tuple[int, ...]:
    """Where the bands end, the last included."""
    return (*bands.cutoffs, vocab)


def band_widths(width: int, bands: AdaptiveConfig) -> Sequence[int]:
    """Width of the embeddings of each band."""
    return [int(width // bands.factor**band) for band in range(len(bands.cutoffs) + 1)]
