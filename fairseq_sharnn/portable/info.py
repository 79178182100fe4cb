"""`info`: what is installed, what will be used, and the line that mends what is broken."""

import contextlib
import importlib
import importlib.util
import logging
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import List, NamedTuple, Optional

from fairseq_sharnn import __version__
from fairseq_sharnn.portable import shipped
from fairseq_sharnn.portable.gpu import ANOTHER_TORCH, Card, lstm_in_words, refusal
from fairseq_sharnn.registration import register

# Packages that install a module named fairseq.
FAIRSEQS = ("ve-fairseq", "fairseq-fixed", "fairseq", "fairseq-built", "fairseq-light")
EXTRAS = ("safetensors", "sentencepiece", "sacremoses", "onnx", "onnxruntime", "constriction")
PAPER_WIDTH, PAPER_LANES = 1024, 16


class Line(NamedTuple):
    """One fact. mend: the command or advice that mends it where it is broken, else None."""

    name: str
    text: str
    mend: Optional[str] = None


def info_lines() -> List[Line]:
    """All facts, in the order in which they are printed."""
    torch_line = _torch()
    kernels = [_kernels()] if torch_line.mend is None else []  # before fairseq, which would import them unheard
    lines = [
        Line("fairseq_sharnn", f"{__version__}, {package_folder()}"),
        Line("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"),
        torch_line,
        _fairseq(),
        _model(),
    ]
    if torch_line.mend is None:
        lines += [*kernels, *_devices()]
    for name in EXTRAS:
        lines.append(Line(name, version_of(name) or "not installed (needed for some commands only)"))
    return lines


def package_folder() -> str:
    """The folder for fairseq's `--user-dir`."""
    return str(Path(__file__).resolve().parent.parent)


def version_of(package: str) -> Optional[str]:
    """Version of an installed package, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def install_fairseq() -> str:
    """The command that installs a fairseq which works on this Python."""
    pip = f"{sys.executable} -m pip install"
    if sys.version_info < (3, 11):
        return f"{pip} fairseq==0.12.2"
    if sys.version_info < (3, 13):
        return f"{pip} --no-deps ve-fairseq==0.12.3"
    return f"{pip} --no-deps --no-build-isolation fairseq-fixed==0.12.3.1"


def _torch() -> Line:
    if importlib.util.find_spec("torch") is None:
        return Line("torch", "not installed", f"{sys.executable} -m pip install torch")
    try:
        torch = importlib.import_module("torch")
    except Exception as error:
        return Line(
            "torch", f"does not import: {_first(error)}", f"{sys.executable} -m pip install --force-reinstall torch"
        )
    return Line("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")


def _fairseq() -> Line:
    found = [f"{name} {version_of(name)}" for name in FAIRSEQS if version_of(name)]
    named = ", ".join(found) or "of unknown origin"
    try:
        with _quiet():
            found_it = importlib.util.find_spec("fairseq") is not None
            fairseq = importlib.import_module("fairseq") if found_it else None
            if fairseq is not None:
                register()
    except ModuleNotFoundError as error:
        name = error.name or ""
        missing = {"sklearn": "scikit-learn", "hydra": "hydra-core", "yaml": "pyyaml"}.get(name, name)
        return Line("fairseq", f"{named} does not import: {error}", f"{sys.executable} -m pip install {missing}")
    except (Exception, SystemExit) as error:
        return Line("fairseq", f"{named} does not import: {_first(error)}", f"{install_fairseq()} --force-reinstall")
    if fairseq is None:
        return Line(
            "fairseq",
            f"not found: export, sample and score work without it, training does not (to install it: {install_fairseq()})",
        )
    if len(found) > 1:
        extra = [name for name in FAIRSEQS if version_of(name)][1:]
        return Line(
            "fairseq",
            f"{named}: several packages write the same files",
            f"{sys.executable} -m pip uninstall {' '.join(extra)}, then {install_fairseq()} --force-reinstall",
        )
    return Line("fairseq", f"{named}, {Path(fairseq.__file__ or '').parent}")


def _model() -> Line:
    """The model that the commands use where none is named."""
    facts = shipped.facts()
    if facts is None:
        return Line("default model", f"missing or damaged: {shipped.SHIPPED}", shipped.put_back())
    sizes, trained = facts["sizes"], facts.get("trained", {})
    bits = trained.get("validation_bits_per_byte")
    known = "" if bits is None else f", {bits} bits per byte on its validation split"
    named = f"{shipped.SHIPPED.name}, D {sizes.get('width')}, context {sizes.get('context')}"
    return Line("default model", f"{named}{known}, {shipped.SHIPPED}")


def install_kernels() -> str:
    """The command that compiles the kernels for the torch of this Python: in the clone that runs, or in one to be made."""
    install = f"{sys.executable} -m pip install --no-deps --no-build-isolation"
    source = Path(package_folder()).parent
    return (
        f"{install} -e {source}" if (source / "setup.py").is_file() else f"{install} --force-reinstall PATH_OF_A_CLONE"
    )


def _kernels() -> Line:
    """Whether the compiled CPU kernels are in use, and why not."""
    import torch

    heard = _Heard()
    logger = logging.getLogger("fairseq_sharnn.ops.kernels")
    logger.addHandler(heard)
    from fairseq_sharnn.ops import kernels

    logger.removeHandler(heard)
    capability = torch.backends.cpu.get_cpu_capability()
    install = install_kernels()
    if kernels.ops is not None:
        loaded = [Path(path).name for path in torch.ops.loaded_libraries if "cpu_torch_" in path]
        return Line("CPU kernels", f"in use on float32: {', '.join(loaded)}")
    if os.environ.get("FAIRSEQ_SHARNN_KERNELS") == "0":
        return Line("CPU kernels", "not in use: FAIRSEQ_SHARNN_KERNELS is 0 (unset it to use them)")
    if heard.messages:
        return Line("CPU kernels", f"not in use: {heard.messages[-1]}", install)
    if platform.machine() in ("x86_64", "AMD64") and not capability.startswith("AVX"):
        return Line("CPU kernels", f"not in use: they need AVX2, and this CPU has {capability}")
    return Line("CPU kernels", f"not compiled: plain torch is used (with a C++ compiler: {install})")


def _devices() -> List[Line]:
    import torch

    lines = [Line("device cpu", f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}")]
    if not torch.cuda.is_available():
        built = torch.version.cuda
        return [*lines, Line("device cuda", "none" + ("" if built else " (this torch is built without CUDA)"))]
    for number in range(torch.cuda.device_count()):
        card, why = Card.of(number), refusal(f"cuda:{number}")
        if why is not None:
            lines.append(Line(f"device cuda:{number}", f"{card}: this torch cannot use it ({why})", ANOTHER_TORCH))
            continue
        lines.append(Line(f"device cuda:{number}", str(card)))
        for kind in ("float16", "bfloat16", "float32"):
            where = f"{kind}, D {PAPER_WIDTH}, {PAPER_LANES} lanes"
            what = lstm_in_words(kind, PAPER_WIDTH, PAPER_LANES, card, torch.backends.cudnn.version() or 0)
            lines.append(Line(f"  LSTM on cuda:{number}", f"{where}: {what}"))
    return lines


class _Heard(logging.Handler):
    """Keeps the messages of a logger."""

    def __init__(self):
        super().__init__()
        self.messages: List[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def _quiet():
    """fairseq and its dependencies print advice while they are imported."""
    logging.disable(logging.WARNING)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _first(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error) or type(error).__name__).splitlines()[0]
