"""A model that has read a history, and the probabilities that it gives to several continuations."""

from typing import List, Sequence

import torch
from torch import Tensor

from experiments.harness.decoding import tokens_kept
from fairseq_sharnn.evaluation.scoring import Scorer


class Reader:
    """Nats of continuations of what was `read` so far. The history begins with </s>, as every stream does."""

    def __init__(self, scorer: Scorer):
        self.model = scorer.model
        self.eos = scorer.task.target_dictionary.eos()
        self.pad = scorer.task.target_dictionary.pad()

    def nats(self, candidates: Sequence[Sequence[int]]) -> Tensor:
        """−ln p of each of n continuations: [n] float64."""
        raise NotImplementedError

    def read(self, tokens: Sequence[int]) -> float:
        """Add tokens to the history; returns their nats."""
        raise NotImplementedError

    def _padded(self, candidates: Sequence[Sequence[int]]) -> Tensor:
        longest = max(len(candidate) for candidate in candidates)
        return torch.tensor([[*candidate, *[self.pad] * (longest - len(candidate))] for candidate in candidates])

    def _log_probs(self, features: Tensor) -> Tensor:
        """ln p [..., V] after features [..., D], whatever output the model has."""
        return self.model.get_normalized_probs((self.model.decoder.output_layer(features), None), log_probs=True)

    def _sum(self, log_probs: Tensor, tokens: Tensor) -> Tensor:
        """−Σ over the tokens [n, L] that are not padding of log_probs [n, L, V]."""
        picked = log_probs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).double()
        return -picked.masked_fill(tokens == self.pad, 0.0).sum(-1)


class StreamReader(Reader):
    """SHA-RNN: the history is a state, which all candidates share."""

    @torch.no_grad()
    def __init__(self, scorer: Scorer):
        super().__init__(scorer)
        self.network = self.model.decoder.network
        features, self.state = self.network(torch.tensor([[self.eos]]), None)
        self.next = self._log_probs(features[-1:])  # [1, 1, V]

    @torch.no_grad()
    def nats(self, candidates: Sequence[Sequence[int]]) -> Tensor:
        tokens = self._padded(candidates)  # [n, L]
        first = -self.next[0, 0, tokens[:, 0]].double()
        if tokens.size(1) == 1:
            return first
        state = self.state.select(torch.zeros(len(tokens), dtype=torch.int64))
        features, _ = self.network(tokens[:, :-1].t(), state)
        return first + self._sum(self._log_probs(features.transpose(0, 1)), tokens[:, 1:])

    @torch.no_grad()
    def read(self, tokens: Sequence[int]) -> float:
        cost = float(self.nats([tokens])[0])
        features, self.state = self.network(torch.tensor([list(tokens)]).t(), self.state)
        self.next = self._log_probs(features[-1:])
        return cost


class WindowReader(Reader):
    """A Transformer: the history is the last tokens, as many as leave room for a continuation."""

    def __init__(self, scorer: Scorer, window: int):
        super().__init__(scorer)
        self.window = window
        self.history: List[int] = [self.eos]

    @torch.no_grad()
    def nats(self, candidates: Sequence[Sequence[int]]) -> Tensor:
        tokens = self._padded(candidates)  # [n, L]
        history = torch.tensor([self.history[-tokens_kept(self.window, tokens.size(1)) :]]).expand(
            len(tokens), -1
        )  # [n, H]
        inputs = torch.cat([history, tokens[:, :-1]], dim=1)
        features = self.model.decoder(inputs, features_only=True)[0][:, history.size(1) - 1 :]  # [n, L, D]
        return self._sum(self._log_probs(features), tokens)

    def read(self, tokens: Sequence[int]) -> float:
        cost = float(self.nats([tokens])[0])
        self.history = [*self.history, *tokens][-self.window :]
        return cost


def make_reader(scorer: Scorer, window: int) -> Reader:
    """The reader for a model. window: positions of a Transformer."""
    return StreamReader(scorer) if scorer.task.carries_state else WindowReader(scorer, window)
