"""The package imports in an instant, registers when fairseq is needed, and its torch-only part needs no fairseq."""

import importlib.util
import sys

import pytest

from fairseq_sharnn.registration import TORCH_ONLY, needs_fairseq
from tests.conftest import ROOT, run_command

HIDDEN = "fairseq,omegaconf,hydra,fairseq_cli"
REGISTERED = """
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.optim import OPTIMIZER_REGISTRY
from fairseq.tasks import TASK_REGISTRY
assert {"byte_level_lm", "streaming_lm"} <= set(TASK_REGISTRY), list(TASK_REGISTRY)
assert "sha_rnn_tiny" in ARCH_MODEL_REGISTRY and "lamb_min_trust" in OPTIMIZER_REGISTRY
"""


def python(code: str):
    finished = run_command(sys.executable, "-c", code)
    assert finished.code == 0, finished.output[-2000:]
    return finished.output


def test_importing_the_package_imports_neither_torch_nor_fairseq():
    python("import sys, fairseq_sharnn\nassert not {'torch', 'fairseq', 'numpy'} & set(sys.modules)")


@pytest.mark.parametrize(
    "first",
    [
        "import fairseq, fairseq_sharnn",
        "import fairseq_sharnn, fairseq_cli.train",
        "import fairseq_sharnn, fairseq_cli.eval_lm, fairseq_cli.train\nassert fairseq_cli.train and fairseq_cli.eval_lm",
        "from fairseq_sharnn.data.samples import make_sample",
        "import fairseq_sharnn.optim.lamb_min_trust as m\nassert m.__spec__.origin.endswith('lamb_min_trust.py')",
        "import fairseq_sharnn.models as m, sys\nassert sys.modules['fairseq_sharnn.models'] is m",
    ],
)
def test_everything_is_registered_whichever_is_imported_first(first):
    python(first + REGISTERED + "import fairseq\nassert fairseq.__spec__.origin.endswith('__init__.py')")


@pytest.mark.parametrize("name", ["modules.sha_rnn", "ops.attend", "optim.lamb", "reference"])
def test_torch_only_modules_import_no_fairseq_and_patch_nothing(name):
    """Also if fairseq is imported afterwards: its trainer is as it was, and it knows no task of ours."""
    python(f"""
import sys, fairseq_sharnn.{name}
assert not {{"fairseq", "omegaconf", "hydra", "fairseq_sharnn.compat"}} & set(sys.modules)
from fairseq.tasks import TASK_REGISTRY
from fairseq.trainer import Trainer
from fairseq import checkpoint_utils
from fairseq.distributed import utils
for function in (Trainer.train_step, checkpoint_utils.load_checkpoint_to_cpu, utils.call_main):
    assert not hasattr(function, "_fairseq_sharnn")
assert "byte_level_lm" not in TASK_REGISTRY
import fairseq_sharnn.models
assert hasattr(Trainer.train_step, "_fairseq_sharnn") and "byte_level_lm" in TASK_REGISTRY
""")


def test_the_version_is_that_of_the_citation():
    code = "import fairseq_sharnn, sys; print(fairseq_sharnn.__version__); assert 'torch' not in sys.modules"
    assert f"version: {python(code).strip()}\n" in (ROOT / "CITATION.cff").read_text()
    assert (ROOT / "fairseq_sharnn" / "py.typed").exists()


def test_torch_only_modules_import_without_fairseq():
    names = [f"fairseq_sharnn.{name}".replace(".*", "") for name in TORCH_ONLY]
    present = [name for name in names if importlib.util.find_spec(name) is not None]
    assert len(present) > len(names) / 2, present
    code = f"import importlib\nfor name in {present}:\n    importlib.import_module(name)"
    finished = run_command(sys.executable, ROOT / "tests" / "without.py", HIDDEN, "-c", code)
    assert finished.code == 0, finished.output[-2000:]


def test_modules_that_work_without_fairseq_import_only_each_other():
    """Where fairseq is installed, too: `python -m fairseq_sharnn sample` would wait for it and print what it logs."""
    files = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / "fairseq_sharnn").rglob("*.py"))
    names = [".".join(path.parts) for path in files if path.name != "__init__"]
    free = [name for name in names if not needs_fairseq(name)]
    assert "fairseq_sharnn.portable.commands" in free and "fairseq_sharnn.models.decoder" not in free
    python(
        f"import importlib, sys\nfor name in {free}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'fairseq' not in sys.modules, name"
    )


def test_what_needs_fairseq():
    assert needs_fairseq("fairseq_cli") and needs_fairseq("fairseq_sharnn.tasks.streaming")
    assert needs_fairseq("fairseq_sharnn.optim.lamb_min_trust") and needs_fairseq("fairseq_sharnn.portable_other")
    for name in (
        "fairseq_sharnn",
        "fairseq_sharnn.portable.info",
        "fairseq_sharnn.optim.lamb",
        "torch",
        "fairseq",
        "fairseq.data",
    ):
        assert not needs_fairseq(name)
