"""The card of the shipped model: README.md in its folder."""

from typing import Any, Dict, List, Sequence

from torch import Tensor

from experiments.harness.markdown import table
from experiments.weights.measure import Figure, Sample
from fairseq_sharnn.portable.card import facts_table, size_facts, training_facts
from fairseq_sharnn.portable.config import PortableConfig

USE = """\
# The model in the package

A small SHA-RNN language model (Merity, arXiv 1911.11423) of English books, read byte by byte. The commands of
`python -m fairseq_sharnn` use it where no other is named.

It shows what the software does. You can sample, score and compress with it; `fairseq-train` cannot start from it. It
continues text in the style of old books, and knows no facts. It repeats the views of its texts, among them what is
offensive today. Do not use it to inform or advise people.

## Use it

```sh
python -m fairseq_sharnn sample --prompt "It was "
python -m fairseq_sharnn score FILE
python -m fairseq_sharnn compress FILE OUT
```

```python
from fairseq_sharnn import load

model = load()
print(model.sample("It was ", length=200, seed=1))
```

They need torch and safetensors (`compress` also constriction), and no fairseq.
"""


def card(
    config: PortableConfig,
    tensors: Dict[str, Tensor],
    about: str,
    data: Sequence[Sequence[Any]],
    training: Sequence[str],
    figures: Sequence[Figure],
    pin: Figure,
    drawn: Sequence[Sample],
) -> str:
    """The text of the card.

    about: Markdown on the texts and their licence. data: rows of split, bytes and sha256. training: lines of the command.
    """
    lines = [*USE.splitlines(), "", *about.splitlines(), ""]
    lines += table(("split", "bytes", "sha256"), data)
    lines += ["## The model", "", *facts_table(size_facts(config, tensors)), ""]
    lines += ["## Its training", "", *facts_table(_training(config)), "", "```sh", *training, "```", ""]
    lines += [
        "## Bits per byte",
        "",
        "FILE is the first bytes of the test split, whose books are not in the train split.",
        "",
    ]
    header = ("", "bytes", "result", "command")
    lines += table(header, [_row(figure) for figure in figures])
    lines += ["A test of the package checks this figure:", ""]
    lines += table(header, [_row(pin)])
    lines += ["## Samples", ""]
    for sample in drawn:
        lines += ["```sh", sample.command, "```", "", "```text", *sample.text.splitlines(), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _training(config: PortableConfig) -> Dict[str, Any]:
    facts = training_facts(config)
    if "seconds" in config.trained:
        facts["hours of training, wall clock"] = f"{config.trained['seconds'] / 3600:.2f}"
    return facts


def _row(figure: Figure) -> List[str]:
    return [figure.what, f"{figure.count:,}", figure.result, f"`{figure.command}`"]
