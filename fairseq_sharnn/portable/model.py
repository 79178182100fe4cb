"""A trained model in torch only: sampling, scoring, and streams."""

import hashlib
import os
from typing import Any, Callable, Iterator, List, Optional, Sequence, Union

import torch
from torch import Tensor, nn

from fairseq_sharnn.data.codecs import Codec
from fairseq_sharnn.data.text.vocabulary import FIRST_BYTE
from fairseq_sharnn.evaluation.dynamic import STATIC, DynamicSettings
from fairseq_sharnn.modules.sha_rnn import StreamNetwork
from fairseq_sharnn.portable.arguments import Text, as_bytes, as_ids, as_texts, as_whole
from fairseq_sharnn.portable.config import PortableConfig
from fairseq_sharnn.portable.network import PortableNetwork, RefusesQuantization
from fairseq_sharnn.portable.outputs import AdaptiveOutput, TiedOutput
from fairseq_sharnn.portable.sampling import Piece, Predictor, Settings, sample_prompts
from fairseq_sharnn.portable.scoring import Score, score_text
from fairseq_sharnn.portable.stream import Stream


class Model(RefusesQuantization, nn.Module):
    """A loaded model. `load` makes it. It moves, casts, copies and pickles as every torch module does.

    codec: from text to ids and back. config: sizes and what is known of the training.
    """

    def __init__(self, config: PortableConfig, module: PortableNetwork, codec: Codec):
        super().__init__()
        self.config, self.module, self.codec = config, module, codec

    @property
    def network(self) -> StreamNetwork:
        """From tokens [T, B] and a state to features [T, B, D] and the state after them."""
        return self.module.network

    @property
    def output(self) -> Union[TiedOutput, AdaptiveOutput]:
        """From features [N, D] to log probabilities [N, V]."""
        return self.module.output

    @property
    def predictor(self) -> Predictor:
        """The model as sampling sees it."""
        return Predictor(self.network, self.output.logits)

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.module.parameters()).dtype

    @property
    def block(self) -> int:
        """Tokens that are read together where nothing else decides: a quarter of the context, at most 512."""
        return max(1, min(512, self.config.sizes.context // 4))

    @property
    def digest(self) -> str:
        """Digest of the configuration and of some of each weight: the same model or not."""
        found = hashlib.sha256(repr(self.config.sizes).encode())
        for name, tensor in self.module.state_dict().items():
            found.update(f"{name} {tensor.dtype}".encode())
            found.update(tensor.flatten()[:64].float().cpu().numpy().tobytes())
        return found.hexdigest()[:32]

    def log_probs(self, features: Tensor) -> Tensor:
        """log p [N, C] after features [N, D]: columns are bytes for a byte model, ids for another."""
        log_probs = self.output.log_probs(features)
        return log_probs[:, FIRST_BYTE:] if self.codec.unit == "byte" else log_probs

    def encode(self, text: Text) -> List[int]:
        """Ids of a text whose last line is still open. Raises UsageError if it is not the model's text."""
        return self.codec.encode(as_bytes(text, "text"))

    def decode(self, ids: Any) -> str:
        """Text of ids [N], with invalid UTF-8 as \\xNN. Raises UsageError for ids that the model does not have."""
        return self.codec.decode(as_ids(ids, self.codec.vocab, "ids")).decode("utf-8", "backslashreplace")

    def stream(self, file: Optional[Union[str, "os.PathLike[str]"]] = None) -> Stream:
        """A stream that starts, or the one that `Stream.save` wrote to a file."""
        return Stream(self) if file is None else Stream.load(self, file)

    def sample(
        self,
        prompt: Union[Text, Sequence[Text]] = "",
        length: int = 256,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: Optional[int] = None,
    ) -> Union[str, List[str]]:
        """Continue a prompt by `length` bytes (words and pieces: tokens); returns prompt and continuation.

        Several prompts give a list. They run as one batch, and each gets the text that it would get by itself.
        Invalid UTF-8 is shown as \\xNN. temperature: 0 takes the likeliest each time. top_k, top_p: draw from the k
        likeliest (0: all), and from the fewest whose probability reaches p. seed: makes the draw repeatable. Raises
        UsageError for settings out of range, TypeError for arguments of another kind.
        """
        prompts, single = as_texts(prompt, "prompt")
        settings = Settings(length, temperature, top_k, top_p)
        texts = [bytearray() for _ in prompts]
        for piece in self.draw(prompts, settings, [seed] * len(prompts)):
            texts[piece.number] += piece.text
        shown = [bytes(text).decode("utf-8", "backslashreplace") for text in texts]
        return shown[0] if single else shown

    def draw(self, prompts: Sequence[Text], settings: Settings, seeds: Sequence[Optional[int]]) -> Iterator[Piece]:
        """The samples in pieces as they are drawn, prompts included: each piece names its prompt by number."""
        encoded, _ = as_texts(list(prompts), "prompt")
        return sample_prompts([self.predictor], self.codec, encoded, settings, seeds)

    def score(
        self,
        text: Text,
        lanes: Optional[int] = None,
        chunk: Optional[int] = None,
        context_window: int = 0,
        name: str = "the text",
        advance: Callable[[int], object] = lambda count: None,
        dynamic: DynamicSettings = STATIC,
    ) -> Score:
        """Bits per byte of a text, each byte once, as fairseq-eval-lm counts them.

        lanes: stretches that are read together (8). chunk: ids read at a time (that of training). context_window: ids
        that a lane reads before its stretch. dynamic: settings of dynamic evaluation, such as `DynamicSettings(lr=5e-4)`;
        the model is unchanged afterwards. Raises UsageError if they do not fit the text, TypeError for arguments of
        another kind.
        """
        lanes = None if lanes is None else as_whole(lanes, "lanes")
        chunk = None if chunk is None else as_whole(chunk, "chunk")
        window = as_whole(context_window, "context_window")
        if not isinstance(dynamic, DynamicSettings):
            raise TypeError(f"dynamic must be DynamicSettings(...), not {type(dynamic).__name__}")
        return score_text(self, as_bytes(text, "text"), name, lanes, chunk, window, advance, dynamic)
