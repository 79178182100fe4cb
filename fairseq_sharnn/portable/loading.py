"""`load`: a checkpoint or an exported folder as a model."""

import os
from pathlib import Path
from typing import Any, Dict, Optional, Union

import torch
from torch import Tensor

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.ops.step import NARROW
from fairseq_sharnn.portable.arguments import as_path
from fairseq_sharnn.portable.checkpoint import Parts, read_checkpoint
from fairseq_sharnn.portable.config import DTYPES, PortableConfig
from fairseq_sharnn.portable.gpu import ANOTHER_TORCH, refusal
from fairseq_sharnn.portable.model import Model
from fairseq_sharnn.portable.network import build
from fairseq_sharnn.portable.shipped import CONFIG, SHIPPED, WEIGHTS, is_shipped, put_back
from fairseq_sharnn.portable.text import read_codec

WEIGHT_KINDS = ("float32", *NARROW)


def load(
    path: Union[str, "os.PathLike[str]"] = SHIPPED,
    device: Optional[Union[str, torch.device]] = None,
    dtype: Optional[Union[str, torch.dtype]] = None,
    data: Optional[Union[str, "os.PathLike[str]"]] = None,
    weights: str = "float32",
) -> Model:
    """Open a model: an exported folder, or a fairseq checkpoint. Needs torch only; nothing in the file is run.

    path: by default the model that comes with the package. device: `cpu`, `cuda`, `cuda:1` (default: cpu). dtype: `float32`,
    `float16` or `bfloat16` (default: float32 on CPU, on CUDA as the weights are stored). data: the DATA folder of a
    checkpoint of words or pieces, if it has moved. weights: `float32`, or the layers' matrices rounded to `bfloat16` or
    `int8` (one scale a row), which a step on CPU then reads faster. Raises UsageError in one line, and TypeError for
    arguments of another kind.
    """
    if weights not in WEIGHT_KINDS:
        raise UsageError(f"--weights must be one of {', '.join(WEIGHT_KINDS)}, but it is {weights}")
    path = Path(as_path(path, "path"))
    where, kind = _device(device), _dtype(dtype)
    folder = None if data is None else as_path(data, "data")
    parts = _read(path, folder)
    kind = kind or ("float32" if where.type == "cpu" else parts.config.dtype)
    narrow = weights != "float32"
    if narrow and (where.type, kind) != ("cpu", "float32"):
        raise UsageError(
            f"--weights {weights} is for computing in float32 on CPU, not in {kind} on {where.type}: leave out --weights, "
            "or --device and --dtype"
        )
    module = build(parts.config, parts.tensors, str(path))
    module.to(device=where, dtype=getattr(torch, kind))
    if narrow:
        module.network.narrow(weights)
    return Model(parts.config, module, parts.codec)


def _read(path: Path, data: Optional[str]) -> Parts:
    """The parts of a model. Raises UsageError if there is none, or if it is damaged."""
    if not is_shipped(path):
        return read_folder(path) if path.is_dir() else read_checkpoint(path, data)
    _safetensors()  # if it is missing, the model is not to blame
    try:
        return read_folder(path)
    except UsageError as error:
        raise UsageError(
            f"the model that comes with the package is missing or damaged, {path}: put it back: {put_back()} (or name "
            "another model with --model; in Python: load(PATH))"
        ) from error


def read_folder(folder: Path) -> Parts:
    """The parts of an exported model. Raises UsageError if the folder is no export, or is damaged."""
    config_path, weights_path = folder / CONFIG, folder / WEIGHTS
    if not config_path.is_file() or not weights_path.is_file():
        missing = CONFIG if not config_path.is_file() else WEIGHTS
        raise UsageError(
            f"{folder} is not an exported model: it has no {missing} (name the folder that `sharnn export` made, or a "
            "checkpoint file)"
        )
    try:
        text = config_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {config_path}: {getattr(error, 'strerror', None) or error}") from None
    config = PortableConfig.from_json(text, str(config_path))
    tensors = read_weights(weights_path)
    codec = read_codec(folder, config.text)
    if codec.vocab != config.sizes.vocab:
        raise UsageError(
            f"{folder} has a vocabulary of {codec.vocab} symbols, but its configuration has {config.sizes.vocab}: put its "
            "own dict.txt back, or export the checkpoint again"
        )
    return Parts(config, tensors, codec)


def read_weights(path: Path) -> Dict[str, Tensor]:
    """The tensors of a safetensors file. Raises UsageError if it is damaged."""
    safetensors = _safetensors()
    try:
        return safetensors.torch.load_file(str(path))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except (safetensors.SafetensorError, ValueError) as error:
        raise UsageError(f"{path} is cut short or damaged ({error}): export the checkpoint again") from None


def _safetensors() -> Any:
    """The package safetensors. Raises UsageError if it is not installed."""
    try:
        import safetensors
        import safetensors.torch
    except ModuleNotFoundError:
        raise UsageError("exported models need safetensors: pip install safetensors") from None
    return safetensors


def _device(name: Any) -> torch.device:
    """The device to compute on. Raises TypeError if it is no device, UsageError if it is not there."""
    if name is None:
        return torch.device("cpu")
    if not isinstance(name, (str, torch.device)):
        raise TypeError(f"device must be cpu, cuda, cuda:1 or a torch.device, not {type(name).__name__}")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device {name} is none that torch knows: use cpu, cuda or cuda:1") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {name} is not available: torch finds no CUDA device here; use cpu")
    try:
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UsageError(f"device {name} is not available here: use cpu, cuda or cuda:1") from None
    why = refusal(device) if device.type == "cuda" else None
    if why is not None:
        raise UsageError(f"this torch cannot use device {name} ({why}): use cpu, or {ANOTHER_TORCH}")
    return device


def _dtype(name: Any) -> Optional[str]:
    """Name of the type to compute in. Raises TypeError or UsageError if it is none that a model can have."""
    if name is not None and not isinstance(name, (str, torch.dtype)):
        raise TypeError(f"dtype must be {', '.join(DTYPES)} or a torch.dtype, not {type(name).__name__}")
    kind = None if name is None else str(name).replace("torch.", "")
    if kind is not None and kind not in DTYPES:
        raise UsageError(f"dtype must be one of {', '.join(DTYPES)}, but it is {kind}")
    return kind
