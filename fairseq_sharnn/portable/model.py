"""A trained model in torch only: sampling, scoring, and streams."""

import hashlib
from typing import Callable, Iterator, List, Optional, Sequence, Union

import torch
from torch import Tensor

from fairseq_sharnn.evaluation.dynamic import STATIC, DynamicSettings
from fairseq_sharnn.portable.config import PortableConfig
from fairseq_sharnn.portable.network import PortableNetwork
from fairseq_sharnn.portable.sampling import Piece, Settings, sample_prompts
from fairseq_sharnn.portable.scoring import Score, score_text
from fairseq_sharnn.portable.stream import Stream
from fairseq_sharnn.portable.text import FIRST_BYTE, Codec

Text = Union[str, bytes]


class Model:
    """A loaded model. `load` makes it.

    network: from tokens [T, B] and a state to features [T, B, D] and the state after them. output: from features to log
    probabilities. codec: from text to ids and back. config: sizes and what is known of the training.
    """

    def __init__(self, config: PortableConfig, module: PortableNetwork, codec: Codec):
        self.config, self.module, self.codec = config, module, codec
        self.network, self.output = module.network, module.output

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

    def stream(self, file: Optional[str] = None) -> Stream:
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
        UsageError for settings out of range.
        """
        single = isinstance(prompt, (str, bytes))
        prompts = [prompt] if single else list(prompt)
        settings = Settings(length, temperature, top_k, top_p)
        texts = [bytearray() for _ in prompts]
        for piece in self.draw(prompts, settings, [seed] * len(prompts)):
            texts[piece.number] += piece.text
        shown = [bytes(text).decode("utf-8", "backslashreplace") for text in texts]
        return shown[0] if single else shown

    def draw(self, prompts: Sequence[Text], settings: Settings, seeds: Sequence[Optional[int]]) -> Iterator[Piece]:
        """The samples in pieces as they are drawn, prompts included: each piece names its prompt by number."""
        encoded = [as_bytes(prompt) for prompt in prompts]
        return sample_prompts(self, encoded, settings, seeds)

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
        the model is unchanged afterwards. Raises UsageError if they do not fit the text.
        """
        return score_text(self, as_bytes(text), name, lanes, chunk, context_window, advance, dynamic)


def as_bytes(text: Text) -> bytes:
    """A text as bytes, whatever bytes a string stands for."""
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else bytes(text)
