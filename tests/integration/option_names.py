"""Which options a message names, and which options the command that printed it has."""

import argparse
import re
from functools import lru_cache
from pathlib import Path
from typing import FrozenSet, List

from fairseq_sharnn.portable.command_line import make_parser
from tests.integration import forked

# Options that messages may name although the command has them not: the message says whose they are.
OF_OTHERS = {"--byte_fallback": "sentencepiece's own trainer", "--nproc_per_node": "torchrun"}
STAGES = {"training": "fairseq-train", "evaluation": "fairseq-eval-lm"}
_OWNER_BEFORE = re.compile(r"(fairseq-[a-z-]+)'s $")
_STAGE_AFTER = re.compile(r" \((training|evaluation)\)")
_NAME = re.compile(r"(?<![\w-])--[a-z][a-z0-9_]*(?:-[a-z0-9_]+)*(?![\w-])")


def options_in(message: str) -> List[str]:
    """The options that a text names; patterns such as --num-...-checkpoints are left out."""
    return _NAME.findall(message)


def unknown_options(program: str, message: str) -> List[str]:
    """Options in a message that its program does not have. program: `fairseq-train`, or the name of a script.

    An option may be another program's if the message says so: `fairseq-eval-lm's --path`, or `--path (evaluation)`. Then
    that program must have it.
    """
    unknown = []
    for match in _NAME.finditer(message):
        option = match[0]
        owner = _OWNER_BEFORE.search(message[: match.start()])
        stage = _STAGE_AFTER.match(message[match.end() :])
        whose = owner[1] if owner else STAGES[stage[1]] if stage else program
        if option not in OF_OTHERS and option not in options_of(whose):
            unknown.append(option)
    return sorted(unknown)


@lru_cache(maxsize=None)
def options_of(program: str) -> FrozenSet[str]:
    """All options of a program: for fairseq's commands with those of registered models, optimizers and criterions."""
    if program.startswith("fairseq-"):
        return _fairseq_options(program[len("fairseq-") :])
    if program == "sharnn":
        return frozenset(options_in(" ".join(_subcommands_help())))
    name = Path(program).stem
    texts = [forked.run_script(name, "--help").output]
    found = re.search(r"\{([a-z0-9,]+)\} \.\.\.", texts[0])
    for command in found[1].split(",") if found else ():
        texts.append(forked.run_script(name, command, "--help").output)
    return frozenset(options_in("\n".join(texts)))


def _subcommands_help() -> List[str]:
    """The help texts of `python -m fairseq_sharnn COMMAND`."""
    (commands,) = (action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return [parser.format_help() for parser in commands.choices.values()]


def _fairseq_options(tool: str) -> FrozenSet[str]:
    from fairseq import models, options, registry, tasks
    from fairseq.dataclass.utils import gen_parser_from_dataclass

    from fairseq_sharnn.registration import register

    register()
    makers = {
        "train": options.get_training_parser,
        "hydra-train": options.get_training_parser,
        "eval-lm": options.get_eval_lm_parser,
        "validate": options.get_validation_parser,
        "generate": options.get_generation_parser,
        "interactive": options.get_interactive_generation_parser,
    }
    parsers = [makers[tool]()]
    dataclasses = [*tasks.TASK_DATACLASS_REGISTRY.values(), *models.MODEL_DATACLASS_REGISTRY.values()]
    for entry in registry.REGISTRIES.values():
        dataclasses += entry["dataclass_registry"].values()
        for name, kind in entry["registry"].items():
            if name not in entry["dataclass_registry"] and hasattr(kind, "add_args"):
                parsers.append(argparse.ArgumentParser(conflict_handler="resolve"))
                kind.add_args(parsers[-1])
    for kind in dataclasses:
        parser = argparse.ArgumentParser(conflict_handler="resolve")
        gen_parser_from_dataclass(parser, kind())
        parsers.append(parser)
    return frozenset(option for parser in parsers for action in parser._actions for option in action.option_strings)
