"""config.json of an exported model: what the network is made of, what an id is, and what is known of the training."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Dict, Optional, Tuple

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.modules.sha_rnn import SHARNNSizes

FORMAT = "fairseq-sharnn model"
VERSION = 1
TEXTS = ("bytes", "word", "sentencepiece", "spaces")
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class AdaptiveConfig:
    """Bands of an adaptive softmax: where they end (without the last), and how much narrower each is than the one before."""

    cutoffs: Tuple[int, ...]
    factor: float
    tied_projections: bool


@dataclass(frozen=True)
class PortableConfig:
    """All but the weights.

    sizes: of the network. text: what an id stands for (`bytes`, `word`, `sentencepiece`, or `spaces` for symbols between
    spaces). chunk: tokens in a chunk of training, the default of scoring. dtype: of the stored weights. trainable: the
    over-parameterised vectors keep their networks. adaptive: bands of an adaptive softmax, None for the paper's output.
    trained: facts for the model card, from the checkpoint.
    """

    sizes: SHARNNSizes
    text: str
    chunk: int
    dtype: str = "float32"
    trainable: bool = False
    adaptive: Optional[AdaptiveConfig] = None
    trained: Dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        values = {"format": FORMAT, "format_version": VERSION, **asdict(self)}
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, path: str) -> "PortableConfig":
        """The configuration in a config.json. path: for messages. Raises UsageError if it cannot be used."""
        try:
            values = json.loads(text)
        except ValueError:
            raise UsageError(f"{path} is cut short or damaged: export the checkpoint again") from None
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise UsageError(f"{path} is not that of an exported model: export a checkpoint with `sharnn export`")
        version = values.pop("format_version", None)
        if not isinstance(version, int) or version > VERSION:
            raise UsageError(
                f"{path} has format version {version}, and this fairseq_sharnn reads versions up to {VERSION}: install a "
                "newer fairseq_sharnn, or export the checkpoint again with this one"
            )
        try:
            sizes = _known(SHARNNSizes, values.pop("sizes"))
            sizes["attention_layers"] = tuple(sizes["attention_layers"])
            bands = values.pop("adaptive")
            if bands is not None:
                bands = _known(AdaptiveConfig, bands)
                bands = AdaptiveConfig(**{**bands, "cutoffs": tuple(int(end) for end in bands["cutoffs"])})
            config = cls(sizes=SHARNNSizes(**sizes), adaptive=bands, **_known(cls, values))
            if config.text not in TEXTS or config.dtype not in DTYPES or int(config.chunk) < 1:
                raise ValueError("a value is out of range")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{path} is damaged ({error}): export the checkpoint again") from None
        return config


def _known(kind, values: Dict[str, Any]) -> Dict[str, Any]:
    """The values of a dataclass. Raises KeyError naming what is there too much."""
    unknown = set(values) - {known.name for known in fields(kind)}
    if unknown:
        raise KeyError(f"unknown: {', '.join(sorted(unknown))}")
    return dict(values)
