"""From a checkpoint to text in Python: fairseq's hub interface, with sampling that keeps the stream state."""

from typing import List, Optional, Union

import torch
from fairseq.hub_utils import GeneratorHubInterface
from torch import Tensor


class SHARNNHubInterface(GeneratorHubInterface):
    """A loaded model: `sample` continues a prompt; fairseq's `generate` and `score` work as elsewhere."""

    def sample(
        self,
        prompt: Union[str, bytes] = "",
        length: int = 256,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: Optional[int] = None,
    ) -> str:
        """Continue `prompt` by `length` bytes (words and word pieces: tokens); returns prompt and continuation.

        Invalid UTF-8 is shown as \\xNN. temperature: 0 takes the likeliest each time. top_k, top_p: draw from the k
        likeliest (0: all), and from the fewest whose probability reaches p. seed: makes the draw repeatable. See
        `sample_bytes` for bytes. A prompt for words or pieces had better not end in a space: it belongs to what follows.
        """
        return self.sample_bytes(prompt, length, temperature, top_k, top_p, seed).decode("utf-8", "backslashreplace")

    @torch.no_grad()
    def sample_bytes(
        self,
        prompt: Union[str, bytes] = "",
        length: int = 256,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: Optional[int] = None,
    ) -> bytes:
        """Like `sample`, returning bytes. Raises ValueError for settings out of range."""
        if not isinstance(prompt, (str, bytes)):
            raise TypeError("sample continues one text or bytes; for lists of texts and beams there is `generate`")
        if not (length >= 0 and temperature >= 0 and top_k >= 0 and 0 < top_p <= 1):
            raise ValueError("sample needs length >= 0, temperature >= 0, top_k >= 0 and 0 < top_p <= 1")
        prompt = prompt.encode("utf-8", "surrogateescape") if isinstance(prompt, str) else bytes(prompt)
        decoder, read = self.models[0].decoder, self.task.codec.encode(prompt)
        network, start = decoder.network, torch.tensor([self.task.source_dictionary.eos()])
        tokens = torch.cat([start, read]).to(self.device).unsqueeze(1)  # [T, 1]
        choice = torch.tensor(self.task.codec.sampleable_ids(), device=self.device)
        generator = None
        if seed is not None:
            generator = torch.Generator(device=self.device).manual_seed(seed)
        state, drawn, block = None, [], max(1, network.sizes.context // 4)
        for part in tokens.split(block):
            features, state = network(part, state)
        for _ in range(length):
            logits = decoder.logits(features[-1, 0]).float()[choice]
            token = choice.take(_draw(logits, temperature, top_k, top_p, generator))  # an index would wait for a GPU
            drawn.append(token)
            features, state = network(token.view(1, 1), state)
        return prompt + self._continuation(read.tolist(), torch.stack(drawn).tolist() if drawn else [])

    def encode(self, sentence: str) -> torch.LongTensor:
        """Ids of a text and </s>, as `generate` and `score` take them."""
        ids = self.task.codec.encode(sentence.encode("utf-8", "surrogateescape"))
        return torch.cat([ids, ids.new_tensor([self.task.source_dictionary.eos()])])

    def decode(self, tokens: torch.LongTensor) -> str:
        """Text of ids."""
        return self.task.codec.show(tokens)

    def _continuation(self, read: List[int], drawn: List[int]) -> bytes:
        """Text of what was drawn, as it reads behind the prompt (whether a space comes between depends on both)."""
        before, whole = self.task.codec.decode(read), self.task.codec.decode(read + drawn)
        return whole[len(before) :] if whole.startswith(before) else self.task.codec.decode(drawn)


def _draw(logits: Tensor, temperature: float, top_k: int, top_p: float, generator) -> Tensor:
    """Draw one index (0-d) from logits [V]."""
    if temperature == 0:
        return logits.argmax()
    logits = logits / temperature
    if 0 < top_k < logits.numel():
        logits = logits.masked_fill(logits < logits.topk(top_k).values[-1], float("-inf"))
    if top_p < 1.0:
        ordered, order = logits.softmax(-1).sort(descending=True)
        # drop what comes after the mass p is reached: never the likeliest byte
        logits = logits.index_fill(0, order[(ordered.cumsum(-1) - ordered) >= top_p], float("-inf"))
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[0]
