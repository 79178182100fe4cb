"""The kernels as a library: what they refuse, when they are used, which file is loaded; and the network with them."""

import math
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNDropout, SHARNNSizes
from fairseq_sharnn.ops import kernels, naming
from tests.conftest import run_command
from tests.unit.ops.oracle import VARIANT, close, needs_kernels

pytestmark = needs_kernels


@pytest.mark.parametrize("kernel", ["attend", "lstm", "boom", "dropout"])
def test_what_is_not_a_number_stays_so(kernel):
    """fairseq's checks of the loss rely on it."""
    bad = torch.randn(8, 8, 16)
    bad[2, 3, 5] = math.nan
    with torch.no_grad():
        out = {
            "attend": lambda: kernels.ops.attend(bad, [bad.transpose(0, 1).contiguous()], 1, 0.0, 0)[0],
            "lstm": lambda: kernels.ops.lstm(bad.repeat(1, 1, 4), torch.randn(64, 16), bad[0], bad[0])[0],
            "boom": lambda: kernels.ops.activate_and_fold(bad, 16, 0.0, 0),
            "dropout": lambda: kernels.ops.dropout(bad, 0.01, 1),
        }[kernel]()
    assert out.isnan().any()


def test_checkpointed_activations_are_freed_and_the_masks_drawn_again(threads, monkeypatch):
    """Same loss and gradients, and the widest tensors of a layer, gates and Boom activations, are not kept."""
    torch.manual_seed(0)
    start = SHARNN(SHARNNSizes(50, 32, 64, 2, (0,), 1, 40)).state_dict()
    tokens = torch.randint(50, (12, 16))
    wide = []
    for name in ("lstm", "activate_and_fold"):
        run = getattr(kernels.ops, name)
        watched = lambda x, *given, run=run: wide.append(StorageWeakRef(x.untyped_storage())) or run(x, *given)  # noqa: E731
        monkeypatch.setattr(kernels.ops, name, watched)
    found = []
    for checkpointed in (False, True):
        network = SHARNN(
            SHARNNSizes(50, 32, 64, 2, (0,), 1, 40),
            SHARNNDropout(0.1, 0.1, 0.1, 0.1, 0.1, 0.1),
            checkpoint_activations=checkpointed,
        )
        network.load_state_dict(start)
        wide.clear()
        torch.manual_seed(3)
        features, _ = network(tokens)
        loss = network.logits(features).square().mean()
        assert [storage.expired() for storage in wide] == [checkpointed] * 4
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in network.parameters()]))
    (loss, grads), (again, grads_again) = found
    assert torch.equal(loss, again)
    for ours, theirs in zip(grads, grads_again):
        close(ours, theirs.double())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda o: o.attend(torch.zeros(2, 1, 6), [torch.zeros(1, 4, 6)], 4, 0.0, 0), "heads must divide"),
        (lambda o: o.attend(torch.zeros(2, 1, 6), [torch.zeros(1, 1, 6)], 1, 0.0, 0), "fewer rows than queries"),
        (lambda o: o.attend(torch.zeros(2, 1, 6), [torch.zeros(2, 4, 6)], 1, 0.0, 0), r"segments must be"),
        (
            lambda o: o.lstm(torch.zeros(2, 1, 64), torch.zeros(64, 15), torch.zeros(1, 16), torch.zeros(1, 16)),
            "weight",
        ),
        (lambda o: o.activate_and_fold(torch.zeros(2, 30), 16, 0.0, 0), "multiple of 16 columns"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call, message):
    with pytest.raises(RuntimeError, match=message):
        call(kernels.ops)


def test_network_is_the_same_without_kernels(threads, monkeypatch):
    """Loss and every gradient, over two chunks, against the path in plain torch."""
    torch.manual_seed(0)
    network = SHARNN(SHARNNSizes(50, 32, 80, 2, (0, 1), 2, 40), SHARNNDropout(0, 0, 0, 0, 0, 0))
    tokens = torch.randint(50, (24, 8))

    def gradients():
        network.zero_grad()
        state, losses = None, []
        for part in tokens.split(12):
            features, state = network(part, state)
            losses.append(torch.nn.functional.cross_entropy(network.logits(features).flatten(0, 1), part.flatten()))
        sum(losses).backward()
        return [loss.detach() for loss in losses] + [p.grad.clone() for p in network.parameters()]

    ran = []
    for name in ("lstm", "attend", "activate_and_fold"):
        run = getattr(kernels.ops, name)
        monkeypatch.setattr(kernels.ops, name, lambda *given, name=name, run=run: ran.append(name) or run(*given))
    ours = gradients()
    assert set(ran) == {"lstm", "attend", "activate_and_fold"}
    monkeypatch.setattr(kernels, "ops", None)
    for mine, plain in zip(ours, gradients()):
        close(mine, plain.double())


def test_other_types_and_autocast_take_the_plain_path():
    single = torch.zeros(2)
    assert kernels.usable(single)
    assert not kernels.usable(single, single.double())
    assert not kernels.usable(single.bfloat16())
    assert not kernels.usable(torch.zeros(2, device="meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not kernels.usable(single)


def test_kernels_can_be_declined(monkeypatch):
    monkeypatch.setenv("FAIRSEQ_SHARNN_KERNELS", "0")
    assert kernels._load(Path(kernels.__file__).parent) is None


def test_a_library_of_another_source_or_torch_is_not_used(tmp_path, caplog):
    folder = Path(kernels.__file__).parent
    (tmp_path / "csrc").mkdir()
    assert kernels._load(tmp_path) is None and not caplog.text
    for path in (folder / "csrc").iterdir():
        (tmp_path / "csrc" / path.name).write_bytes(path.read_bytes())
    name = naming.library_name(torch.__version__, tmp_path / "csrc", VARIANT)
    assert name == naming.library_name(torch.__version__ + "+cpu", folder / "csrc", VARIANT)
    (tmp_path / f"{name}.so").touch()
    (tmp_path / "csrc" / "lstm.cpp").write_text("// another")
    assert kernels._load(tmp_path) is None
    assert "are not used: install fairseq_sharnn again" in caplog.text
    assert naming.library_name("1.0", tmp_path / "csrc", "") != naming.library_name("2.0", tmp_path / "csrc", "")


def test_a_library_that_does_not_load_says_so(tmp_path, caplog):
    (tmp_path / "csrc").mkdir()
    ending = sysconfig.get_config_var("EXT_SUFFIX")
    (tmp_path / (naming.library_name(torch.__version__, tmp_path / "csrc", VARIANT) + ending)).write_text(
        "not a library"
    )
    assert kernels._load(tmp_path) is None
    assert "does not load" in caplog.text


@pytest.mark.parametrize("capability, chosen", [("AVX512", "avx512"), ("AVX2", "avx2")])
@pytest.mark.skipif(VARIANT == "", reason="there is one library for this kind of CPU")
def test_the_widest_library_that_the_cpu_has_is_used(monkeypatch, tmp_path, capability, chosen):
    """And the other one where that was not compiled: an old compiler may not know AVX-512."""
    (tmp_path / "csrc").mkdir()
    ending = sysconfig.get_config_var("EXT_SUFFIX")
    paths = {
        variant: tmp_path / (naming.library_name(torch.__version__, tmp_path / "csrc", variant) + ending)
        for variant in ("avx2", "avx512")
    }
    loaded = []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    for path in paths.values():
        path.touch()
    kernels._load(tmp_path)
    paths["avx512"].unlink()
    kernels._load(tmp_path)
    assert loaded == [str(paths[chosen]), str(paths["avx2"])]


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512", reason="the tests above have run the one library"
)
def test_the_library_for_avx2_passes_these_tests_too():
    finished = run_command(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", Path(__file__).parent),
        env={"ATEN_CPU_CAPABILITY": "avx2", "PYTEST_ADDOPTS": ""},
        timeout=900,
    )
    assert finished.code == 0 and " passed" in finished.output and "not compiled" not in finished.output, (
        finished.output
    )
