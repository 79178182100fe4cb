"""`export`: a checkpoint as a folder that needs no fairseq: configuration, weights, text, model card, ONNX graphs."""

import os
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, Iterator, Optional

import torch
from torch import Tensor

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.files import write_whole
from fairseq_sharnn.portable.card import model_card
from fairseq_sharnn.portable.checkpoint import Parts
from fairseq_sharnn.portable.config import DTYPES
from fairseq_sharnn.portable.model import Model
from fairseq_sharnn.portable.network import build
from fairseq_sharnn.portable.shipped import CARD, CONFIG, WEIGHTS


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder next to `out` to work in. It becomes `out` at the end, and is removed on any error.

    Raises UsageError if `out` is there already, or cannot be made.
    """
    out = out.absolute()
    if os.path.lexists(out):
        raise UsageError(f"OUT {out} is there already: name a new folder, or remove it")
    work = out.parent / f".{out.name}.{os.getpid()}.tmp"
    try:
        work.mkdir(parents=True)
        try:
            yield work
            if os.path.lexists(out):
                raise UsageError(f"OUT {out} was made by another program meanwhile: name a new folder")
            os.rename(work, out)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or out}: {error.strerror or error}") from None


def export(
    parts: Parts,
    out: Path,
    dtype: str = "float32",
    trainable: bool = False,
    onnx: bool = False,
    int8: bool = False,
    text: Optional[bytes] = None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Write a model to the folder `out`, whole or not at all.

    dtype: of the stored weights. trainable: keep the networks of the over-parameterised vectors. onnx, int8: write the
    graphs too, in float32 and with weights of 8 bits. say: takes lines for the user. Raises UsageError if `out` exists,
    or if a package is missing.
    """
    if dtype not in DTYPES:
        raise UsageError(f"--dtype must be one of {', '.join(DTYPES)}, but it is {dtype}")
    parts = parts if trainable else collapsed(parts)
    kind = getattr(torch, dtype)
    tensors = {name: tensor.to(kind).contiguous() for name, tensor in parts.tensors.items()}
    config = replace(parts.config, dtype=dtype, trainable=trainable)
    measured: Dict[str, str] = {}
    if onnx or int8:
        from fairseq_sharnn.portable.onnx_files import check_packages

        check_packages()
    with staged(out) as work:
        _write_weights(tensors, work / WEIGHTS)
        for name, content in parts.codec.files().items():
            write_whole(work / name, content)
        if onnx or int8:
            from fairseq_sharnn.portable.onnx_files import write_graphs

            model = Model(config, build(config, parts.tensors, str(out)), parts.codec)
            measured = write_graphs(model, work, int8, say, text)
        write_whole(work / CARD, model_card(config, tensors, out.name, measured))
        write_whole(work / CONFIG, config.to_json())


def collapsed(parts: Parts) -> Parts:
    """The same model with each over-parameterised vector as one plain vector: fewer weights, the same output."""
    if parts.config.sizes.static_vectors != "overparameterized":
        return parts
    module = build(parts.config, parts.tensors, "the checkpoint")
    tensors: Dict[str, Tensor] = dict(parts.tensors)
    for number in parts.config.sizes.attention_layers:
        prefix = f"network.blocks.{number}.attention.value"
        vector = module.network.blocks[number].attention.value()
        for name in [name for name in tensors if name.startswith(f"{prefix}.")]:
            del tensors[name]
        tensors[f"{prefix}.gate"] = vector.detach().clone()
    sizes = replace(parts.config.sizes, static_vectors="plain")
    return Parts(replace(parts.config, sizes=sizes), tensors, parts.codec)


def _write_weights(tensors: Dict[str, Tensor], path: Path) -> None:
    try:
        from safetensors.torch import save
    except ModuleNotFoundError:
        raise UsageError("export needs safetensors: pip install safetensors") from None
    write_whole(path, save(tensors, {"format": "pt"}))
