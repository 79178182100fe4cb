"""From a checkpoint to text in Python: fairseq's hub interface, with sampling that carries the stream state."""

from typing import List, Optional, Union

import torch
from fairseq.hub_utils import GeneratorHubInterface

from fairseq_sharnn.portable.sampling import Settings, draw_tokens


class SHARNNHubInterface(GeneratorHubInterface):
    """A loaded model. `sample` continues a prompt. fairseq's `generate` and `score` work as with its own models."""

    def sample(
        self,
        prompt: Union[str, bytes] = "",
        length: int = 256,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: Optional[int] = None,
    ) -> str:
        """Continue `prompt` by `length` bytes (by `length` tokens, if the model reads words or word pieces).

        temperature: 0 takes the likeliest token each time. top_k: draw from the k likeliest tokens (0: from all). top_p:
        draw from the fewest tokens whose probabilities add up to p. seed: makes the draw repeatable. With words or word
        pieces a prompt should not end in a space, because the space belongs to the next word. Returns the prompt and its
        continuation, with invalid UTF-8 as \\xNN (`sample_bytes` returns bytes).
        """
        return self.sample_bytes(prompt, length, temperature, top_k, top_p, seed).decode("utf-8", "backslashreplace")

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
        settings = Settings(length, temperature, top_k, top_p)
        prompt = prompt.encode("utf-8", "surrogateescape") if isinstance(prompt, str) else bytes(prompt)
        decoder, read = self.models[0].decoder, self.task.codec.encode(prompt)
        tokens = torch.cat([torch.tensor([self.task.source_dictionary.eos()]), read]).to(self.device)  # [T]
        choice = torch.tensor(self.task.codec.sampleable_ids(), device=self.device)
        drawn = [lane[0] for lane in draw_tokens(decoder.network, decoder.logits, [tokens], choice, settings, [seed])]
        return prompt + self._continuation(read.tolist(), drawn)

    def encode(self, sentence: str) -> torch.LongTensor:
        """Ids of a text and </s>, as `generate` and `score` take them."""
        ids = self.task.codec.encode(sentence.encode("utf-8", "surrogateescape"))
        return torch.cat([ids, ids.new_tensor([self.task.source_dictionary.eos()])])

    def decode(self, tokens: torch.LongTensor) -> str:
        """Text of ids."""
        return self.task.codec.show(tokens)

    def _continuation(self, read: List[int], drawn: List[int]) -> bytes:
        """Text of what was drawn, as it reads after the prompt (both decide whether a space comes between)."""
        before, whole = self.task.codec.decode(read), self.task.codec.decode(read + drawn)
        return whole[len(before) :] if whole.startswith(before) else self.task.codec.decode(drawn)
