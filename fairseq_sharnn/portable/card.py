"""The model card: README.md of an exported model, with what the checkpoint knows."""

from typing import Any, Dict, List

from torch import Tensor

from fairseq_sharnn.portable.config import PortableConfig

_TEXTS = {
    "bytes": "raw bytes, without a tokenizer",
    "word": "words, cut by the rule in tokenizer.json",
    "sentencepiece": "word pieces of sentencepiece.model",
    "spaces": "symbols between spaces",
}


def model_card(config: PortableConfig, tensors: Dict[str, Tensor], name: str, measured: Dict[str, str]) -> str:
    """The text of the card. measured: what the export itself measured, by name."""
    lines = [
        f"# {name}",
        "",
        "A SHA-RNN language model (Merity, arXiv 1911.11423), exported from a fairseq checkpoint by fairseq_sharnn.",
        "",
        "## Use it",
        "",
        "```bash",
        f'python -m fairseq_sharnn sample --model {name} --prompt "The "',
        f"python -m fairseq_sharnn score FILE --model {name}",
        "```",
        "",
        "```python",
        "from fairseq_sharnn import load",
        "",
        f'model = load("{name}")',
        'print(model.sample("The ", length=200, seed=1))',
        "```",
        "",
        "Both need torch and safetensors, and no fairseq.",
        "",
        "## The model",
        "",
        *facts_table(size_facts(config, tensors)),
        "",
        "## Its training",
        "",
        *facts_table(training_facts(config)),
    ]
    if measured:
        lines += ["", "## ONNX graphs", "", *facts_table(measured)]
    return "\n".join(lines) + "\n"


def size_facts(config: PortableConfig, tensors: Dict[str, Tensor]) -> Dict[str, Any]:
    """What the model is made of, by name."""
    sizes = config.sizes
    layers = ", ".join(map(str, sizes.attention_layers)) or "none"
    facts: Dict[str, Any] = {
        "text": _TEXTS[config.text],
        "vocabulary": f"{sizes.vocab:,}",
        "parameters": f"{sum(tensor.numel() for tensor in tensors.values()):,}",
        "stored as": config.dtype,
        "width D": sizes.width,
        "Boom width H": sizes.boom_width,
        "layers": sizes.layers,
        "indices of layers with attention": f"{layers} (the first layer is 0; heads in each: {sizes.heads})",
        "context": f"{sizes.context:,}",
        "over-parameterised vectors": "kept with their networks" if config.trainable else "collapsed",
    }
    if config.adaptive is not None:
        facts["adaptive softmax"] = f"bands end at {', '.join(map(str, config.adaptive.cutoffs))}"
    return facts


def training_facts(config: PortableConfig) -> Dict[str, Any]:
    """What is known of the training, by name."""
    names = {
        "updates": "updates",
        "epoch": "number of the last epoch, which may be incomplete",
        "lanes": "lanes",
        "bytes_read": "bytes read",
        "bytes_read_at_most": "bytes read, at most (updates x lanes x chunk)",
        "tokens_read_at_most": "tokens read, at most (updates x lanes x chunk)",
        "seconds": "seconds of training",
        "validation_bits_per_byte": "bits per byte on the validation split",
        "validation_bits_per_token": "bits per token on the validation split",
    }
    facts: Dict[str, Any] = {"chunk": f"{config.chunk:,}"}
    for key, name in names.items():
        value = config.trained.get(key)
        if value is not None:
            facts[name] = f"{value:,.0f}" if key == "seconds" else f"{value:,}" if isinstance(value, int) else value
    if "validation_bits_per_byte" not in config.trained and "validation_bits_per_token" not in config.trained:
        facts["bits on the validation split"] = "not in the checkpoint"
    return facts


def facts_table(facts: Dict[str, Any]) -> List[str]:
    """The lines of a table of two columns without titles."""
    return ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in facts.items())]
