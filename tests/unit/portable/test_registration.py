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
        "import fairseq_sharnn, fairseq",
        "from fairseq_sharnn.data.samples import make_sample",
        "import fairseq_sharnn.models as m, sys\nassert sys.modules['fairseq_sharnn.models'] is m",
    ],
)
def test_everything_is_registered_whichever_is_imported_first(first):
    python(first + REGISTERED + "import fairseq\nassert fairseq.__spec__.origin.endswith('__init__.py')")


def test_torch_only_modules_import_without_fairseq():
    names = [f"fairseq_sharnn.{name}".replace(".*", "") for name in TORCH_ONLY]
    present = [name for name in names if importlib.util.find_spec(name) is not None]
    assert len(present) > len(names) / 2, present
    code = f"import importlib\nfor name in {present}:\n    importlib.import_module(name)"
    finished = run_command(sys.executable, ROOT / "tests" / "without.py", HIDDEN, "-c", code)
    assert finished.code == 0, finished.output[-2000:]


def test_what_needs_fairseq():
    assert needs_fairseq("fairseq") and needs_fairseq("fairseq_sharnn.tasks.streaming")
    assert needs_fairseq("fairseq_sharnn.optim.lamb_min_trust") and needs_fairseq("fairseq_sharnn.portable_other")
    for name in (
        "fairseq_sharnn",
        "fairseq_sharnn.portable.info",
        "fairseq_sharnn.optim.lamb",
        "torch",
        "fairseq.data",
    ):
        assert not needs_fairseq(name)
