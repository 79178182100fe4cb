#!/usr/bin/env python3
"""Write the tables of docs/options.md from the help texts of the configurations: python docs/write_options.py"""

import argparse
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, Dict, List

from fairseq.dataclass import FairseqDataclass
from fairseq.models import ARCH_CONFIG_REGISTRY
from omegaconf import MISSING

from fairseq_sharnn.models.sha_rnn import SHARNNConfig
from fairseq_sharnn.optim.lamb_min_trust import LambMinTrustConfig
from fairseq_sharnn.tasks.byte_level_lm import ByteLevelLMConfig
from fairseq_sharnn.tasks.streaming_lm import StreamingLMConfig

PAGE = Path(__file__).resolve().parent / "options.md"
FAMILY = "sha_rnn"


def table(head: List[str], rows: List[List[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(escaped(cell) for cell in line)} |" for line in lines)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is inside a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def option(name: str) -> str:
    return f"`--{name.replace('_', '-')}`"


def shown(default: Any) -> str:
    """A default as a reader types it."""
    if default is None or default == MISSING:
        return ""
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"`{default}`"


def options_table(config: type) -> str:
    """One row an option: its name, default and help. What another part of the configuration owns is left out."""
    rows = []
    for field in fields(config):
        if "help" in field.metadata:
            name = "`DATA` (the first argument)" if field.name == "data" else option(field.name)
            rows.append([name, shown(field.default), field.metadata["help"]])
    return table(["option", "default", "meaning"], rows)


def architectures_table() -> str:
    """One row an architecture: its name, what it is, and the options it sets."""
    rows = [[f"`{FAMILY}`", "The paper's model with a single head.", ""]]
    for name, apply in ARCH_CONFIG_REGISTRY.items():
        if name.startswith(f"{FAMILY}_"):
            settings = argparse.Namespace()
            apply(settings)
            said = ", ".join(f"{option(key)[1:-1]} {value}" for key, value in vars(settings).items())
            rows.append([f"`{name}`", apply.__doc__.strip(), f"`{said}`"])
    return table(["`--arch`", "what it is", "sets"], rows)


def tables() -> Dict[str, str]:
    """The generated parts of the page by their marks."""
    configs: Dict[str, FairseqDataclass] = {
        "model": SHARNNConfig,
        "byte_level_lm": ByteLevelLMConfig,
        "streaming_lm": StreamingLMConfig,
        "lamb_min_trust": LambMinTrustConfig,
    }
    return {"architectures": architectures_table(), **{name: options_table(one) for name, one in configs.items()}}


def page(text: str) -> str:
    """The page with its generated parts replaced."""
    for name, content in tables().items():
        marks = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
        text, found = re.subn(marks, lambda match, new=content: f"{match[1]}{new}\n{match[2]}", text, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"{PAGE} needs one part marked 'generated: {name}', but has {found}")
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
