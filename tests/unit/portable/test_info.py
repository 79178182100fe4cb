"""What `info` says of a machine, and the line that mends a broken one."""

import sys
import types

import pytest

from fairseq_sharnn.portable import gpu, info
from tests.conftest import ROOT


def test_which_lstm_kernel_runs_on_cuda():
    """The rule in torch's RNN.cpp: H100 132 multiprocessors cc 9.0, A10 72 cc 8.6."""
    assert gpu.lstm_kernel("float16", 1024, 16, 132, (9, 0)) == ("persistent", "")
    assert gpu.lstm_kernel("float16", 128, 3, 10, (7, 5)) == ("persistent small", "")
    for case, reason in [
        (("bfloat16", 1024, 16, 132, (9, 0)), "float16"),
        (("float16", 1000, 16, 132, (9, 0)), "multiples of 128"),
        (("float16", 2048, 16, 132, (9, 0)), "up to 1024"),
        (("float16", 1024, 12, 132, (9, 0)), "multiples of 8"),
        (("float16", 1024, 136, 132, (9, 0)), "up to 128"),
        (("float16", 1024, 16, 72, (8, 0)), "98 multiprocessors"),
        (("float16", 1024, 16, 132, (8, 6)), "compute capability 8.6"),
    ]:
        name, why = gpu.lstm_kernel(*case)
        assert name == "standard" and reason in why, (case, why)


@pytest.mark.parametrize(
    "version, package", [((3, 10), "fairseq==0.12.2"), ((3, 12), "ve-fairseq"), ((3, 13), "fixed")]
)
def test_the_fairseq_to_install_depends_on_the_python(monkeypatch, version, package):
    monkeypatch.setattr(info, "sys", types.SimpleNamespace(version_info=version, executable="python"))
    assert package in info.install_fairseq()


def test_a_fairseq_that_lacks_a_package_gets_the_line_that_mends_it(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")

    monkeypatch.setattr(info, "importlib", types.SimpleNamespace(util=info.importlib.util, import_module=broken))
    line = info._fairseq()
    assert "does not import" in line.text and line.mend == f"{sys.executable} -m pip install scikit-learn"


def test_kernels_of_another_torch_get_a_command_that_can_work(monkeypatch, tmp_path):
    """A clone is installed again; an installed wheel has no source, so a clone is needed."""
    assert info.install_kernels().endswith(f" -e {ROOT}")
    monkeypatch.setattr(info, "package_folder", lambda: str(tmp_path / "site-packages" / "fairseq_sharnn"))
    assert info.install_kernels().endswith(" --force-reinstall PATH_OF_A_CLONE")
