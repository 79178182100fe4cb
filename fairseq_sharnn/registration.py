"""Registration with fairseq, when it is first needed: importing `fairseq_sharnn` stays cheap.

fairseq takes seconds to import and may be broken or absent. So the package registers its model, optimizer and tasks,
and patches fairseq, at one of three moments: at its own import if fairseq is imported already (`--user-dir`), before
one of its own modules that need fairseq, or before fairseq's command lines (`fairseq_cli`). A program that uses only
`modules`, `ops`, `reference` or `optim.lamb` can import fairseq next to them: it stays as it is.
"""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Optional

PACKAGE = "fairseq_sharnn"

# What works without fairseq: these modules, and everything inside those that are packages with a star.
TORCH_ONLY = (
    "__main__",
    "data",
    "data.codecs",
    "data.corpora",
    "data.corpora.enwik8",
    "data.corpora.prepare",
    "data.corpora.shuffle",
    "data.streams",
    "data.streams.ahead",
    "data.streams.carrier",
    "data.streams.lanes",
    "data.streams.plan",
    "data.text",
    "data.text.folder",
    "data.text.lines",
    "data.text.moses",
    "data.text.pieces",
    "data.text.spans",
    "data.text.symbols",
    "data.text.tokenizer",
    "data.text.vocabulary",
    "data.text.words",
    "errors",
    "evaluation",
    "evaluation.dynamic",
    "evaluation.golden",
    "evaluation.scale",
    "files",
    "modules.*",
    "ops.*",
    "optim",
    "optim.lamb",
    "portable.*",
    "reference",
    "registration",
)


def needs_fairseq(name: str) -> bool:
    """Whether a module of the given full name is fairseq's command lines, or one of ours that imports fairseq."""
    if name == "fairseq_cli":
        return True
    if not name.startswith(f"{PACKAGE}."):
        return False
    inner = name[len(PACKAGE) + 1 :]
    return not any(
        inner == known or (known.endswith(".*") and f"{inner}.".startswith(known[:-1])) for known in TORCH_ONLY
    )


def register() -> None:
    """Patch fairseq and register the model, the optimizer and the tasks. Does nothing the second time."""
    from fairseq_sharnn import compat

    compat.apply()
    for module in ("models.sha_rnn", "optim.lamb_min_trust", "tasks.byte_level_lm", "tasks.streaming_lm"):
        importlib.import_module(f"{PACKAGE}.{module}")


def register_when_needed() -> None:
    """Register now if fairseq is imported, else before the first module that needs it; never without fairseq."""
    if sys.modules.get("fairseq") is not None:
        register()
    elif importlib.util.find_spec("fairseq") is not None:
        sys.meta_path.insert(0, _Registrar())


class _Registrar:
    """Sees each import first, and registers before the first one that needs fairseq."""

    def find_spec(self, name: str, path=None, target=None) -> Optional[ModuleSpec]:
        if not needs_fairseq(name):
            return None
        sys.meta_path.remove(self)
        register()
        module = sys.modules.get(name)  # registering has imported it, or its own import follows now
        if module is None:
            return None
        spec = ModuleSpec(name, _Imported(module), is_package=hasattr(module, "__path__"))
        module.__spec__ = spec  # Python takes this one for a module that a finder has imported, and would load it again
        return spec


class _Imported:
    """A loader for a module that was imported while it was looked for."""

    def __init__(self, module: ModuleType):
        self._module = module
        self._spec = module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec
