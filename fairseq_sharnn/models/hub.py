"""From a checkpoint to text in Python: fairseq's hub interface, with sampling that carries the stream state."""

import os
from functools import partial
from typing import Any, Dict, List, Optional, Sequence, Union

import torch
from fairseq import hub_utils
from fairseq.hub_utils import GeneratorHubInterface
from torch import nn

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.portable.arguments import Text, as_bytes, as_ids, as_path, as_texts, as_whole
from fairseq_sharnn.portable.network import RefusesQuantization
from fairseq_sharnn.portable.sampling import Predictor, Settings, sample_prompts

Path = Union[str, "os.PathLike[str]"]
# Arguments of fairseq's from_pretrained that are no options of a checkpoint.
_FAIRSEQS_OWN = {"archive_map", "generation_args", "user_dir"}


class MissingFile(UsageError, FileNotFoundError):
    """A folder that is not there."""


class SHARNNHubInterface(RefusesQuantization, GeneratorHubInterface):
    """A loaded model. `sample` continues a prompt. fairseq's `generate` and `score` work as with its own models.

    Several checkpoints are one model whose probabilities are the mean of theirs, in all three.
    """

    def __init__(self, cfg: Any, task: Any, models: Sequence[nn.Module]):
        super().__init__(cfg, task, models)
        for model in self.models:
            model.train = partial(_stay_in_inference, model)  # fairseq's own has no name, so that nothing pickles it

    def sample(
        self,
        prompt: Text = "",
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
        prompt: Text = "",
        length: int = 256,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: Optional[int] = None,
    ) -> bytes:
        """Like `sample`, returning bytes. Raises ValueError for settings out of range, TypeError for other kinds."""
        if isinstance(prompt, (list, tuple)):
            raise TypeError("sample continues one text or bytes; for lists of texts and beams there is `generate`")
        settings, text = Settings(length, temperature, top_k, top_p), as_bytes(prompt, "prompt")
        pieces = sample_prompts(self._predictors(), self.task.codec, [text], settings, [seed])
        return b"".join(piece.text for piece in pieces)

    def _predictors(self) -> List[Predictor]:
        """The models as sampling sees them. Raises UsageError if one of them carries no state."""
        for model in self.models:
            if not getattr(model.decoder, "carries_state", False):
                raise UsageError(
                    f"sample needs models that carry state, and this checkpoint is a {type(model).__name__}: draw with "
                    "generate([model.encode(prompt)[:-1]], beam=1, sampling=True, max_len_b=200)"
                )
        return [Predictor(model.decoder.network, model.decoder.logits) for model in self.models]

    def score(
        self, sentences: Union[Text, Sequence[Text]], replace_newline_with_eos: bool = False, **kwargs: Any
    ) -> Union[Dict[str, Any], List[Dict[str, Any]]]:
        """fairseq's `score`: log probabilities of a text or of each of several. Raises UsageError for an empty one."""
        texts, single = as_texts(sentences, "sentences")
        strings = [text.decode("utf-8", "surrogateescape") for text in texts]
        scores: List[Dict[str, Any]] = []
        if all(strings):
            scores = super().score(strings, replace_newline_with_eos=replace_newline_with_eos, **kwargs)
        if not all(strings) or any(len(score["positional_scores"]) == 0 for score in scores):
            raise UsageError("there is nothing to score in an empty text: leave it out")
        return scores[0] if single else scores

    def generate(self, tokenized_sentences: Any, beam: int = 5, *args: Any, **kwargs: Any) -> List:
        """fairseq's `generate`: hypotheses for ids [T] (see `encode`), or for a list of them.

        Raises TypeError or UsageError for what is no list of the model's ids.
        """
        if as_whole(beam, "beam") < 1:
            raise UsageError(f"beam must be at least 1, but it is {beam}")
        if torch.is_tensor(tokenized_sentences) and tokenized_sentences.dim() < 2:
            return self.generate([tokenized_sentences], beam, *args, **kwargs)[0]
        if not torch.is_tensor(tokenized_sentences) and not isinstance(tokenized_sentences, (list, tuple)):
            raise TypeError(
                f"generate takes a list of ids as `encode` makes them, not {type(tokenized_sentences).__name__}"
            )
        vocab = len(self.task.source_dictionary)
        sentences = [torch.tensor(as_ids(ids, vocab, "a sentence"), dtype=torch.long) for ids in tokenized_sentences]
        return super().generate(sentences, int(beam), *args, **kwargs)

    def translate(self, *args: Any, **kwargs: Any) -> List[str]:
        """fairseq's name for `sample` of models of sentence pairs. Raises UsageError: this model has none."""
        raise UsageError("translate is for models of sentence pairs: continue a text with sample")

    def encode(self, sentence: Text) -> torch.LongTensor:
        """Ids of a text and </s>, as `generate` and `score` take them."""
        ids = self.task.codec.encode(as_bytes(sentence, "sentence"))
        return torch.LongTensor([*ids, self.task.source_dictionary.eos()])

    def decode(self, tokens: Any) -> str:
        """Text of ids [N], or of each row of ids [B, N]. Raises TypeError or UsageError for what are no ids of the model."""
        if getattr(tokens, "ndim", 1) == 2:
            return "\n".join(self.decode(row) for row in tokens)
        dictionary, codec = self.task.target_dictionary, self.task.codec
        ids = as_ids(tokens, len(dictionary), "tokens")
        return dictionary.string(ids) if codec.unit == "byte" else codec.show(ids)


def open_checkpoints(
    folder: Path, files: Union[Path, Sequence[Path]], data: Optional[Path], options: Dict[str, Any]
) -> SHARNNHubInterface:
    """One or several checkpoints of a folder. files: `a.pt`, `a.pt:b.pt`, or a list. data: "." if it is None.

    options: of the checkpoint, to be changed. Raises TypeError or UsageError with one line.
    """
    where = as_path(folder, "model_name_or_path")
    several = isinstance(files, (list, tuple))
    names = os.pathsep.join(as_path(file, "checkpoint_file") for file in (files if several else [files]))
    if not all(names.split(os.pathsep)):
        raise UsageError(f"checkpoint_file must name files, as in a.pt or a.pt{os.pathsep}b.pt, but it is {names!r}")
    if not os.path.isdir(where):
        raise MissingFile(f"{where} is not a folder: give the one that holds {names}")
    loaded = hub_utils.from_pretrained(
        where, names, "." if data is None else as_path(data, "data_name_or_path"), **options
    )
    cfg, task = loaded["args"], loaded["task"]
    known = _FAIRSEQS_OWN | {str(key) for group in cfg.values() if hasattr(group, "keys") for key in group} | set(cfg)
    for name in options:
        if name not in known:
            raise TypeError(f"from_pretrained has no argument {name}, and a checkpoint no such option: leave it out")
    if not hasattr(type(task), "codec"):
        raise UsageError(
            f"{names} was not trained with --task byte_level_lm or streaming_lm: load it with fairseq's own class"
        )
    return SHARNNHubInterface(cfg, task, loaded["models"])


def _stay_in_inference(model: nn.Module, mode: bool = True) -> nn.Module:
    """`train` of a model that was loaded for inference."""
    if mode:
        raise UsageError("this model was loaded for inference: train with fairseq-train --restore-file")
    return model
