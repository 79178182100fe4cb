"""A model that reads a text as it comes: one stream, its state, and the state in a file."""

import json
import os
from typing import TYPE_CHECKING, Any, Dict, List, Union

import torch
from torch import Tensor

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.files import replace_whole
from fairseq_sharnn.modules.stream_state import StreamState
from fairseq_sharnn.portable.arguments import Text, as_bytes, as_ids, as_path
from fairseq_sharnn.portable.replayed import read_one

if TYPE_CHECKING:
    from fairseq_sharnn.portable.model import Model

FORMAT = "fairseq-sharnn stream"
VERSION = 1


class Stream:
    """One text that a model reads. It starts before the first byte (or word, or piece).

    state: the model's state after what was read. next: log p [C] of what comes next, in float32; column v of a byte
    model is byte v, column i of another model is id i. count: how many ids were read.
    """

    def __init__(self, model: "Model"):
        self.model = model
        self.count = 0
        self.state: StreamState
        self.next: Tensor
        self._read([model.codec.start], None)

    def feed(self, text: Text) -> Tensor:
        """Read a text; log p [N, C] of what comes after each of its N ids.

        A model of words or pieces cuts the text as if a line began with it, so feed it whole lines. Raises UsageError if
        it is not the model's text.
        """
        return self._feed(self.model.codec.encode(as_bytes(text, "text")))

    def feed_ids(self, ids: Any) -> Tensor:
        """Read ids; log p [N, C] of what comes after each of them. Nothing is read where `ids` is empty.

        Raises UsageError for ids that the model does not have.
        """
        return self._feed(as_ids(ids, self.model.codec.vocab, "ids"))

    def _feed(self, ids: List[int]) -> Tensor:
        if not ids:
            return self.next.new_zeros((0, len(self.next)))
        log_probs = self._read(ids, self.state)
        self.count += len(ids)
        return log_probs

    def copy(self) -> "Stream":
        """Another stream in the same state. The two continue independently, and the memory that they share is kept once.

        The last bits of what the second one computes may differ: its memory lies elsewhere, which changes the order of sums.
        """
        other = object.__new__(Stream)
        other.__dict__.update(self.__dict__)
        return other

    def save(self, file: Union[str, "os.PathLike[str]"]) -> None:
        """Write the state to a file, whole or not at all; `model.stream(file)` reads it. Raises UsageError if it cannot."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        name = as_path(file, "file")

        tensors: Dict[str, Tensor] = {"next": self.next.cpu().contiguous()}
        layout = _take_tensors(self.state.to_dict(), "state", tensors)
        about = {"format": FORMAT, "version": VERSION, "model": self.model.digest, "count": self.count, "state": layout}
        if os.path.isdir(name):
            raise UsageError(f"cannot write {name}: it is a folder")
        try:
            replace_whole(name, lambda path: save_file(tensors, path, {"stream": json.dumps(about)}))
        except (OSError, SafetensorError) as error:
            raise UsageError(f"cannot write {name}: {getattr(error, 'strerror', None) or error}") from None

    @classmethod
    def load(cls, model: "Model", file: Union[str, "os.PathLike[str]"]) -> "Stream":
        """The stream that `save` wrote. Raises UsageError if the file is damaged, or of another model."""
        file = as_path(file, "file")
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, "pt") as opened:
                about = json.loads((opened.metadata() or {})["stream"])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            if about["format"] != FORMAT or about["version"] != VERSION:
                raise KeyError(about["format"])
            saved = _put_tensors(about["state"], tensors)
            following, count, digest = tensors["next"], int(about["count"]), about["model"]
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror or error}") from None
        except (SafetensorError, KeyError, TypeError, ValueError):
            raise UsageError(f"{file} is cut short, damaged, or not a saved stream") from None
        if digest != model.digest:
            raise UsageError(f"{file} is of a stream of another model: load the model that wrote it")
        stream = object.__new__(cls)
        stream.model, stream.count, stream.next = model, count, following.to(model.device)
        stream.state = StreamState.from_dict(saved, model.device)
        return stream

    @torch.no_grad()
    def _read(self, ids: List[int], state) -> Tensor:
        tokens = torch.tensor(ids, device=self.model.device).unsqueeze(1)  # [T, 1]
        network, parts = self.model.network, []
        for part in tokens.split(self.model.block):
            single = len(ids) == 1 and state is not None
            features, state = read_one(network, part, state) if single else network(part, state)
            parts.append(self.model.log_probs(features[:, 0]))
        self.state = state
        log_probs = torch.cat(parts)
        self.next = log_probs[-1]
        return log_probs


def _take_tensors(value: Any, name: str, tensors: Dict[str, Tensor]) -> Any:
    """The value with the name of each tensor in its place; the tensors go into `tensors`."""
    if torch.is_tensor(value):
        tensors[name] = value.contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {key: _take_tensors(item, f"{name}.{key}", tensors) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_take_tensors(item, f"{name}.{number}", tensors) for number, item in enumerate(value)]
    return value


def _put_tensors(value: Any, tensors: Dict[str, Tensor]) -> Any:
    """The reverse of `_take_tensors`."""
    if isinstance(value, dict):
        if set(value) == {"tensor"}:
            return tensors[value["tensor"]]
        return {key: _put_tensors(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_tensors(item, tensors) for item in value]
    return value
