"""fairseq's view of the network: batch-major tokens in, batch-major logits out."""

from typing import Any, Dict, Optional, Tuple

import torch
from fairseq.models import FairseqIncrementalDecoder
from torch import Tensor

from fairseq_sharnn.modules.sha_rnn import StreamNetwork
from fairseq_sharnn.modules.stream_state import StreamState

# No limit: the model has no positions, and fairseq only ever compares against this.
_ANY_LENGTH = 1_000_000_000


class StreamDecoder(FairseqIncrementalDecoder):
    """A network that carries state, without its output, which the subclasses bring (`output_layer` and `logits`).

    The state comes with the sample (`stream`), with `incremental_state` in generation, or starts empty.
    """

    carries_state = True

    def __init__(self, dictionary, network: StreamNetwork):
        super().__init__(dictionary)
        self.network = network

    def output_layer(self, features: Tensor, **unused) -> Tensor:
        """What fairseq's losses and scorer take, from features [B, T, D]."""
        raise NotImplementedError

    def logits(self, features: Tensor) -> Tensor:
        """Logits (or log probabilities, which are logits too) [..., V] of what comes after features [..., D]."""
        raise NotImplementedError

    def forward(
        self, prev_output_tokens: Tensor, encoder_out=None, incremental_state=None, stream=None, **unused
    ) -> Tuple[Tensor, Dict[str, Any]]:
        """The output for what comes after each token.

        prev_output_tokens: [B, T]. stream: the chunk's place in its stream and the carrier of its state, or None.
        incremental_state: fairseq's store between steps; only tokens that are new since the last step are run.
        Returns `output_layer` of the features [B, T', D], and `{"attn": None}` (attention weights are never kept).
        """
        if incremental_state is not None:
            features = self._extend(prev_output_tokens, incremental_state)
        else:
            state = None if stream is None else stream.state(self)
            features, state = self.network(prev_output_tokens.t(), state)
            if stream is not None:
                stream.keep(self, state)
        return self.output_layer(features.transpose(0, 1)), {"attn": None}

    def restore_stream_state(self, saved: Dict) -> StreamState:
        """The state that a checkpoint holds, on the model's device."""
        return StreamState.from_dict(saved, next(self.network.parameters()).device)

    def _extend(self, tokens: Tensor, incremental_state) -> Tensor:
        """Run the tokens after those already consumed. If their number has not grown, the last column is the new one."""
        seen, state = self.get_incremental_state(incremental_state, "stream") or (0, None)
        new = tokens[:, seen:] if tokens.size(1) > seen else tokens[:, -1:]
        features, state = self.network(new.t(), state)
        self.set_incremental_state(incremental_state, "stream", (seen + new.size(1), state))
        return features

    def reorder_incremental_state(self, incremental_state, new_order: Tensor) -> None:
        """Take the lanes that beam search keeps."""
        kept = self.get_incremental_state(incremental_state, "stream")
        if kept is not None and not torch.equal(new_order, torch.arange(kept[1].lanes, device=new_order.device)):
            seen, state = kept
            self.set_incremental_state(incremental_state, "stream", (seen, state.select(new_order)))

    def max_positions(self) -> Optional[int]:
        return _ANY_LENGTH


class SHARNNDecoder(StreamDecoder):
    """The paper's output: the embedding's own matrix, and a bias."""

    def output_layer(self, features: Tensor, **unused) -> Tensor:
        return self.logits(features)

    def logits(self, features: Tensor) -> Tensor:
        return self.network.logits(features)
