"""One token at a time through fairseq's incremental decoding, and the sliding window of a model whose positions end."""

import copy
from typing import Dict, Optional

import torch


def tokens_kept(window: int, following: int = 1) -> int:
    """How many of the last tokens a window of that many positions keeps when it slides: half of it.

    following: tokens that are fed at once; fewer than half are kept where these would not fit otherwise, but at least one.
    """
    return max(1, min(window // 2, window + 1 - following))


class StepwiseDecoder:
    """Feeds a fairseq language model one token at a time, within `window` positions (None: positions do not end).

    At the end of the window the last half of it is read again, also token by token, and decoding continues: the usual
    sliding window, which costs two steps for each token. Raises ValueError for a window of less than 4 positions.
    """

    def __init__(self, model, start: int, window: Optional[int]):
        if window is not None and window < 4:
            raise ValueError(f"a window of {window} positions cannot slide")
        self.model, self.window = model, window
        self.device = next(model.parameters()).device
        self.tokens = [start]
        self._begin(0)
        self._run(1)

    def _begin(self, first: int) -> None:
        """Forget everything before token number `first`."""
        self.state: Dict = {}
        self.first = first

    def step(self, token: int) -> torch.Tensor:
        """Feed one more token; returns the logits [V] of the next."""
        self.tokens.append(token)
        if self.window is not None and len(self.tokens) - self.first > self.window:
            self._begin(len(self.tokens) - tokens_kept(self.window))
            for stop in range(self.first + 1, len(self.tokens)):
                self._run(stop)
        return self._run(len(self.tokens))

    def fork(self) -> "StepwiseDecoder":
        """A copy that continues from here by itself."""
        twin = copy.copy(self)
        twin.state, twin.tokens = copy.deepcopy(self.state), list(self.tokens)
        return twin

    @torch.no_grad()
    def _run(self, stop: int) -> torch.Tensor:
        # a model with positions counts the tokens; a model that only has a state takes the last
        first = self.first if self.window is not None else stop - 1
        seen = torch.tensor([self.tokens[first:stop]], device=self.device)
        return self.model.decoder(seen, incremental_state=self.state)[0][0, -1]
