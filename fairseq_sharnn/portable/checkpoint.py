"""A fairseq checkpoint of `sha_rnn` as configuration, weights and text, read in torch only and without running its code."""

import argparse
import pickle
import zipfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from fairseq_sharnn.data.codecs import ByteCodec, Codec, TokenCodec
from fairseq_sharnn.data.text.vocabulary import digest_of
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.modules.sha_rnn import SHARNNSizes
from fairseq_sharnn.portable.config import AdaptiveConfig, PortableConfig
from fairseq_sharnn.portable.text import read_tokens

TASKS = ("byte_level_lm", "streaming_lm")
_NETWORK, _SOFTMAX = "decoder.network.", "decoder.adaptive_softmax."


class Parts(NamedTuple):
    """What a model is made of: `tensors` have the names of model.safetensors."""

    config: PortableConfig
    tensors: Dict[str, Tensor]
    codec: Codec


def read_checkpoint(path: Path, data: Optional[str] = None) -> Parts:
    """The parts of a checkpoint, with the over-parameterised vectors and their networks.

    data: the DATA folder of a model of words or pieces, if it has moved. Raises UsageError if the file is not a
    checkpoint of this model, or cannot be read here.
    """
    state = _load(path)
    cfg = _cfg(state, path)
    model, task = cfg["model"], cfg["task"]
    if task.get("_name") not in TASKS or not any(name.startswith(f"{_NETWORK}blocks.") for name in state["model"]):
        raise UsageError(f"checkpoint {path} is not one of a sha_rnn model on {' or '.join(TASKS)}")
    codec = ByteCodec() if task["_name"] == TASKS[0] else _codec_of(task, state, path, data)
    bands = _bands(model)
    tensors = _tensors(state["model"], tied=bands is not None and bands.tied_projections)
    vocab = _vocabulary_of(tensors)
    if vocab != codec.vocab:
        raise UsageError(
            f"checkpoint {path} has a vocabulary of {vocab} symbols, but its text has {codec.vocab}: name the DATA folder "
            "that it was trained on with --data"
        )
    try:
        sizes = SHARNNSizes(
            vocab=vocab,
            width=model["decoder_embed_dim"],
            boom_width=model["boom_dim"],
            layers=model["decoder_layers"],
            attention_layers=_attending(tensors),
            heads=model["attention_heads"],
            context=model["context_length"],
            static_vectors=model.get("static_vectors", "overparameterized"),
            feed_forward=model.get("feed_forward", "boom"),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(f"checkpoint {path} has a configuration that does not fit a sha_rnn model: {error}") from None
    kind = "bytes" if isinstance(codec, ByteCodec) else getattr(codec.tokenizer, "kind", "spaces")
    chunk, trained = int(task["tokens_per_sample"]), _facts(state, cfg, codec)
    return Parts(PortableConfig(sizes, kind, chunk, "float32", True, bands, trained), tensors, codec)


def _load(path: Path) -> Dict[str, Any]:
    """The contents of a checkpoint. Raises UsageError if there is none, or if it holds more than plain data."""
    if not path.is_file():
        raise UsageError(f"checkpoint {path} does not exist")
    torch.serialization.add_safe_globals([argparse.Namespace])
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            raise UsageError(
                f"checkpoint {path} holds more than plain data: export it with `sharnn export` where fairseq is installed, "
                "and use the exported folder here"
            ) from None
        raise UsageError(f"{path} is not a checkpoint, or is damaged") from None
    except (RuntimeError, EOFError, KeyError, ValueError, zipfile.BadZipFile, AttributeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path} is cut short, damaged, or not a checkpoint ({reason})") from None


def _cfg(state: Any, path: Path) -> Dict[str, Dict[str, Any]]:
    cfg = state.get("cfg") if isinstance(state, dict) and isinstance(state.get("model"), dict) else None
    if not isinstance(cfg, dict) or not all(isinstance(cfg.get(part), dict) for part in ("model", "task")):
        raise UsageError(f"{path} is not a checkpoint of a sha_rnn model: it has no configuration of one")
    return cfg


def _codec_of(task: Dict[str, Any], state: Dict[str, Any], path: Path, data: Optional[str]) -> TokenCodec:
    """The text of a model of words or pieces, from its DATA folder."""
    folder = Path(data or (str(task.get("data") or "").split(":")[0]) or "nowhere")
    if not (folder / "dict.txt").is_file():
        raise UsageError(
            f"checkpoint {path} is of a model of words or pieces, and {folder} has no dict.txt: name the DATA folder that "
            "it was trained on with --data"
        )
    codec = read_tokens(folder)
    theirs = (state.get("task_state") or {}).get("vocabulary")
    if theirs is not None and theirs != digest_of(codec.vocabulary):
        raise UsageError(
            f"checkpoint {path} was trained on another vocabulary than that of {folder}: name the DATA folder that it was "
            "trained on with --data"
        )
    return codec


def _tensors(state: Dict[str, Tensor], tied: bool) -> Dict[str, Tensor]:
    """Parameters under the names of model.safetensors; what is tied or only a buffer of fairseq is left out.

    tied: the projections of an adaptive softmax are those of its embeddings.
    """
    tensors = {}
    for name, tensor in state.items():
        if name.startswith(_NETWORK):
            tensors[f"network.{name[len(_NETWORK) :]}"] = tensor
        elif name == f"{_SOFTMAX}head.class_proj.weight":
            tensors["output.classes.weight"] = tensor
        elif name.startswith(f"{_SOFTMAX}tail.") and name.endswith(".0.weight") and not tied:
            tensors[f"output.tails.{name.split('.')[3]}.weight"] = tensor
    return {name: tensor.float() for name, tensor in tensors.items() if not name.endswith("_float_tensor")}


def _attending(tensors: Dict[str, Tensor]) -> Tuple[int, ...]:
    """Numbers of the layers that have an attention head."""
    names = (name.split(".") for name in tensors if name.endswith(".attention.query.weight"))
    return tuple(sorted(int(parts[2]) for parts in names))


def _vocabulary_of(tensors: Dict[str, Tensor]) -> int:
    if "network.embed.weight" in tensors:
        return len(tensors["network.embed.weight"])
    prefix = "network.embed.embeddings."
    return sum(
        len(tensor) for name, tensor in tensors.items() if name.startswith(prefix) and name.endswith(".0.weight")
    )


def _bands(model: Dict[str, Any]) -> Optional[AdaptiveConfig]:
    option = model.get("adaptive_softmax_cutoff")
    if not option:
        return None
    cutoffs = tuple(int(end) for end in str(option).strip("[]() ").split(","))
    return AdaptiveConfig(cutoffs, float(model["adaptive_softmax_factor"]), bool(model["tie_adaptive_proj"]))


def _facts(state: Dict[str, Any], cfg: Dict[str, Dict[str, Any]], codec: Codec) -> Dict[str, Any]:
    """What the checkpoint knows of its training. Numbers that it does not hold are left out."""
    history: List[Dict[str, Any]] = state.get("optimizer_history") or [{}]
    extra, task = state.get("extra_state") or {}, cfg["task"]
    facts: Dict[str, Any] = {"updates": history[-1].get("num_updates")}
    iterator = extra.get("train_iterator") or {}
    facts["epoch"] = iterator.get("epoch")
    lanes = (cfg.get("dataset") or {}).get("batch_size")
    if lanes and facts["updates"]:
        workers = (cfg.get("distributed_training") or {}).get("distributed_world_size") or 1
        several = ((cfg.get("optimization") or {}).get("update_freq") or [1])[0]
        facts["lanes"] = lanes * workers
        facts[f"{codec.unit}s_read_at_most"] = facts["updates"] * several * facts["lanes"] * task["tokens_per_sample"]
    facts["seconds"] = extra.get("previous_training_time")
    metric = (cfg.get("checkpoint") or {}).get("best_checkpoint_metric")
    if metric in ("loss", "bpb") and isinstance(extra.get("val_loss"), float):
        facts[f"validation_bits_per_{codec.unit}"] = round(extra["val_loss"], 4)
    return {name: value for name, value in facts.items() if value is not None}
