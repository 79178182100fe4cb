"""`--arch sha_rnn`: SHA-RNN as a fairseq language model, and its named architectures."""

from functools import partial
from typing import Any, Dict

from fairseq.models import FairseqLanguageModel, register_model, register_model_architecture
from fairseq.modules import LayerNorm

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.models.adaptive import (
    AdaptiveDecoder,
    AdaptiveNetwork,
    cutoffs_of,
    embedding_in_bands,
    recommend_bands,
    softmax_in_bands,
)
from fairseq_sharnn.models.config import SHARNNConfig, rates_of, sizes_of
from fairseq_sharnn.models.decoder import SHARNNDecoder
from fairseq_sharnn.modules.sha_rnn import SHARNN

__all__ = ["SHARNNConfig", "SHARNNDecoder", "SHARNNLanguageModel", "rates_of", "sizes_of"]


@register_model("sha_rnn", dataclass=SHARNNConfig)
class SHARNNLanguageModel(FairseqLanguageModel):
    """SHA-RNN (Merity, arXiv 1911.11423) for fairseq's trainer, scorer, generator and hub interface."""

    @classmethod
    def build_model(cls, cfg: SHARNNConfig, task) -> "SHARNNLanguageModel":
        """Build the model for a task's dictionary. Raises UsageError, naming the option that does not fit."""
        dictionary = task.target_dictionary
        vocab, padding = len(dictionary), dictionary.pad()
        network = (sizes_of(cfg, vocab), rates_of(cfg), partial(LayerNorm, export=False), cfg.checkpoint_activations)
        cutoffs = cutoffs_of(cfg.adaptive_softmax_cutoff, vocab)
        if not cutoffs:
            recommend_bands(vocab)
            return cls(SHARNNDecoder(dictionary, SHARNN(*network)))
        embed = embedding_in_bands(cfg, cutoffs, vocab, padding)
        softmax = softmax_in_bands(cfg, embed, cutoffs, vocab, padding)
        return cls(AdaptiveDecoder(dictionary, AdaptiveNetwork(*network, embed), softmax))

    @classmethod
    def from_pretrained(cls, model_name_or_path, checkpoint_file="model.pt", data_name_or_path=".", **kwargs):
        """Load a checkpoint for sampling and scoring: `SHARNNLanguageModel.from_pretrained(dir, file).sample("The ")`.

        It needs no corpus. Several files, as in `a.pt:b.pt` or a list, are averaged by probability. Returns a
        `SHARNNHubInterface`. Raises ValueError or TypeError with one line.
        """
        from fairseq_sharnn.models.hub import open_checkpoints

        return open_checkpoints(model_name_or_path, checkpoint_file, data_name_or_path, kwargs)

    def load_state_dict(self, state_dict: Dict[str, Any], strict=True, model_cfg=None, args=None):
        """Load parameters. Raises UsageError for a checkpoint of another model or another vocabulary."""
        theirs, ours = vocabulary_of(state_dict), len(self.decoder.dictionary)
        if theirs == 0:
            raise UsageError("the checkpoint is not one of a sha_rnn model: choose the --arch it was trained with")
        if theirs != ours:
            raise UsageError(
                f"the checkpoint has a vocabulary of {theirs} symbols, but the task has {ours}: "
                "choose the --task (and dictionary) it was trained with"
            )
        return super().load_state_dict(state_dict, strict, model_cfg, args)


def vocabulary_of(state_dict: Dict[str, Any]) -> int:
    """Number of symbols that a checkpoint of this model embeds; 0 if it is of another model."""
    prefix = "decoder.network.embed."
    plain = state_dict.get(f"{prefix}weight")
    if plain is not None:
        return len(plain)
    bands = (name for name in state_dict if name.startswith(f"{prefix}embeddings.") and name.endswith(".0.weight"))
    return sum(len(state_dict[name]) for name in bands)


@register_model_architecture("sha_rnn", "sha_rnn_full")
def sha_rnn_full(args) -> None:
    """The paper's full model: a head in each layer."""
    args.attention_layers = getattr(args, "attention_layers", "all")


@register_model_architecture("sha_rnn", "sha_rnn_no_head")
def sha_rnn_no_head(args) -> None:
    """The paper's SHA-LSTM without attention."""
    args.attention_layers = getattr(args, "attention_layers", "none")


@register_model_architecture("sha_rnn", "sha_rnn_small")
def sha_rnn_small(args) -> None:
    """A quarter of the paper's width: D 256, H 1024."""
    args.decoder_embed_dim = getattr(args, "decoder_embed_dim", 256)
    args.boom_dim = getattr(args, "boom_dim", 1024)


@register_model_architecture("sha_rnn", "sha_rnn_tiny")
def sha_rnn_tiny(args) -> None:
    """An eighth of the paper's width: D 128, H 512."""
    args.decoder_embed_dim = getattr(args, "decoder_embed_dim", 128)
    args.boom_dim = getattr(args, "boom_dim", 512)
