"""The CPU kernels against the formulas written out in float64, with the masks they drew replayed."""

import math
import platform
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from fairseq_sharnn.modules.block import Block
from fairseq_sharnn.modules.boom import Boom
from fairseq_sharnn.modules.dropout import dropout
from fairseq_sharnn.modules.lstm import lstm
from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNDropout, SHARNNSizes
from fairseq_sharnn.ops import kernels, naming
from tests.conftest import run_command

pytestmark = pytest.mark.skipif(kernels.ops is None, reason="the CPU kernels were not compiled")

# The library that every CPU of this kind has; where there is one for AVX-512, too, torch's own switch chooses.
VARIANT = "avx2" if platform.machine() in ("x86_64", "AMD64") else ""

SEED = 77
VALUE_SEED = SEED ^ kernels.VALUE_KEY


def close(ours: torch.Tensor, exact: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert ours.shape == exact.shape
    assert (ours.double() - exact).abs().max() <= tolerance * exact.abs().max()


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def exact_attention(q, rows, heads, rate):
    """Softmax attention in float64; `rate` takes the kernel's own masks for SEED."""
    lanes, length, width = q.shape
    total, d = rows.size(1), width // heads
    values = kernels.ops.dropout_factors(lanes * total, width, rate, VALUE_SEED).view(lanes, total, width).double()
    weights = kernels.ops.dropout_factors(lanes * heads * length, total, rate, SEED).double()
    weights = weights.view(lanes, heads, length, total)
    future = torch.ones(length, total, dtype=torch.bool).triu(total - length + 1)
    parts = []
    for head in range(heads):
        columns = slice(head * d, (head + 1) * d)
        scores = (q[..., columns] @ rows[..., columns].transpose(1, 2)).masked_fill(future, -math.inf)
        parts.append((scores.softmax(-1) * weights[:, head]) @ (rows * values)[..., columns])
    return torch.cat(parts, dim=-1)


@pytest.mark.parametrize(
    "lanes, length, past, width, heads, rate",
    [
        (3, 40, 700, 48, 2, 0.25),
        (1, 5, 3, 6, 1, 0.0),
        (2, 300, 0, 32, 1, 0.1),
        (1, 33, 301, 36, 3, 0.1),
        (1, 64, 255, 16, 1, 0.5),
        (1, 1, 600, 16, 1, 0.0),
    ],
)
def test_attention_and_its_gradients(threads, lanes, length, past, width, heads, rate):
    """Whatever the tiles, the segments and the split over threads."""
    torch.manual_seed(length)
    q, chunk = (torch.randn(lanes, length, width, dtype=torch.float64, requires_grad=True) for _ in range(2))
    old = torch.randn(lanes, past, width, dtype=torch.float64)
    exact = exact_attention(q, torch.cat([old, chunk], dim=1), heads, rate)
    upstream = torch.randn_like(exact)
    query_grad, chunk_grad = torch.autograd.grad(exact, (q, chunk), upstream)
    segments = (
        torch.cat([old, chunk], dim=1).float().detach().split([min(past, 270), past + length - min(past, 270)], 1)
    )
    query = q.float().detach().transpose(0, 1)
    out, log_sums = kernels.ops.attend(query, segments, heads, rate, SEED)
    above = upstream.float().transpose(0, 1)
    grads = kernels.ops.attend_backward(above, query, segments, out, log_sums, heads, rate, SEED)
    close(out.transpose(0, 1), exact)
    close(grads[0].transpose(0, 1), query_grad)
    close(grads[1].transpose(0, 1), chunk_grad)


@pytest.mark.parametrize(
    "lanes, rows, width, heads", [(1, 5000, 64, 1), (3, 517, 48, 2), (2, 1, 32, 1), (4, 1030, 12, 3)]
)
def test_attention_of_one_step(threads, lanes, rows, width, heads):
    torch.manual_seed(rows)
    q, memory = torch.randn(lanes, 1, width) * 3, torch.randn(lanes, rows, width)
    exact = exact_attention(q.double(), memory.double(), heads, 0.0)
    close(kernels.ops.attend_step(q, memory.split([min(rows, 300), rows - min(rows, 300)], 1), heads), exact)


def test_scores_of_any_size_are_survived():
    """The running maximum: scores of hundreds, growing and falling from tile to tile."""
    rows = torch.linspace(-300, 300, 700).view(1, 700, 1).repeat(2, 1, 16)
    rows[1] = rows[1].flip(0)
    q = torch.ones(2, 3, 16)
    exact = exact_attention(q.double(), rows.double(), 1, 0.0)
    close(kernels.ops.attend(q.transpose(0, 1), [rows], 1, 0.0, 0)[0].transpose(0, 1), exact)
    close(kernels.ops.attend_step(q[:, -1:], [rows], 1), exact[:, -1:])


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("boom_width", [32, 48, 57])
def test_boom_and_its_gradients(boom_width, rate, monkeypatch):
    torch.manual_seed(boom_width)
    boom = Boom(16, boom_width, rate)
    torch.nn.init.normal_(boom.expand.weight)
    monkeypatch.setattr(kernels, "draw_seed", lambda: SEED)
    f = torch.randn(7, 3, 16, requires_grad=True)
    out = boom(f)
    exact_f, weight, bias = (x.detach().double().requires_grad_() for x in (f, boom.expand.weight, boom.expand.bias))
    a = torch.nn.functional.linear(exact_f, weight, bias)[..., : boom.used]
    kept = kernels.ops.dropout_factors(21, boom.used, rate, SEED).view(7, 3, boom.used).double()
    exact = (a * torch.sigmoid(1.702 * a) * kept).unflatten(-1, (-1, 16)).sum(-2)
    close(out, exact)
    upstream = torch.randn_like(out)
    for _ in range(2):  # the second pass over the graph finds the activations spent
        ours = torch.autograd.grad(out, (f, boom.expand.weight, boom.expand.bias), upstream, retain_graph=True)
    for mine, theirs in zip(ours, torch.autograd.grad(exact, (exact_f, weight, bias), upstream.double())):
        close(mine, theirs)


@pytest.mark.parametrize("length, lanes, width", [(9, 8, 32), (1, 11, 16), (30, 9, 48)])
def test_lstm_and_its_gradients(threads, length, lanes, width, monkeypatch):
    torch.manual_seed(length)
    exact = torch.nn.LSTM(width, width).double()
    weights = [p.detach().float().requires_grad_() for p in exact.parameters()]
    x = torch.randn(length, lanes, width, requires_grad=True)
    hidden, cell = torch.randn(lanes, width), torch.randn(lanes, width)
    ran = []
    run = kernels.ops.lstm
    monkeypatch.setattr(kernels.ops, "lstm", lambda *inputs: ran.append(1) or run(*inputs))
    out, last_hidden, last_cell = lstm(x, weights, hidden, cell, True)
    assert ran, "the kernel was not used"
    assert last_hidden.untyped_storage().nbytes() == 4 * lanes * width, "the state keeps the whole output alive"
    exact_x = x.detach().double().requires_grad_()
    expected, (h, c) = exact(exact_x, (hidden.double().unsqueeze(0), cell.double().unsqueeze(0)))
    for ours, theirs in ((out, expected), (last_hidden, h[0]), (last_cell, c[0])):
        close(ours, theirs)
    upstream = torch.randn_like(out)
    for _ in range(2):  # the second pass over the graph finds the gates spent
        ours = torch.autograd.grad(out, (x, *weights), upstream, retain_graph=True)
    theirs = torch.autograd.grad(expected, (exact_x, *exact.parameters()), upstream.double())
    for mine, his in zip(ours, theirs):
        close(mine, his)


def test_dropout_is_its_own_backward(monkeypatch):
    monkeypatch.setattr(kernels, "draw_seed", lambda: SEED)
    x = torch.randn(13, 37, requires_grad=True)
    kept = kernels.ops.dropout_factors(13, 37, 0.3, SEED)
    y = dropout(x, 0.3, True)
    assert torch.equal(y, x * kept)
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert torch.equal(grad, kept)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_masks_keep_the_asked_share_independently(rate):
    kept = kernels.ops.dropout_factors(2000, 1000, rate, SEED)
    assert kept.mean().item() == pytest.approx(1.0, abs=0.01)  # scaled by 1 / P(kept)
    decisions = (kept > 0).double()
    assert decisions.mean().item() == pytest.approx(1 - rate, abs=2e-3)
    centred = decisions - decisions.mean()
    spread = centred.square().mean()
    for shifted in (centred.roll(lag, 1) for lag in (1, 2, 7, 8, 16)):
        assert abs((centred * shifted).mean() / spread) < 5e-3
    assert abs((centred[1:] * centred[:-1]).mean() / spread) < 5e-3
    other = (kernels.ops.dropout_factors(2000, 1000, rate, SEED + 1) > 0).double()
    assert abs((centred * (other - other.mean())).mean() / spread) < 5e-3


def test_seeds_come_from_torchs_generator():
    torch.manual_seed(5)
    first = kernels.draw_seed()
    assert first != kernels.draw_seed()
    torch.manual_seed(5)
    assert kernels.draw_seed() == first


@pytest.mark.parametrize("attention", [0, 1, 2])
@pytest.mark.parametrize("boom_width", [64, 100])
@pytest.mark.parametrize("context", [4, 20])
def test_single_steps_equal_a_chunk(attention, boom_width, context, monkeypatch):
    """Steps by the kernels against one chunk; where the context is cut, against steps in float64 torch."""
    torch.manual_seed(attention)
    block = Block(32, boom_width, attention, context).eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    h = torch.randn(9, 2, 32)

    def steps(x):
        state, outs = None, []
        for step in x.split(1):
            out, state = block(step, state)
            outs.append(out)
        return torch.cat(outs), state

    ran = []
    run = kernels.ops.boom_step
    monkeypatch.setattr(kernels.ops, "boom_step", lambda *given: ran.append(1) or run(*given))
    with torch.no_grad():
        ours, state = steps(h)
        block.double()
        exact, exact_state = steps(h.double()) if context < 9 else block(h.double(), None)
    assert len(ran) == 9
    close(ours, exact)
    close(state.cell, exact_state.cell)


@pytest.mark.parametrize("kernel", ["attend", "attend_step", "lstm", "boom", "dropout"])
def test_what_is_not_a_number_stays_so(kernel):
    """fairseq's checks of the loss rely on it."""
    bad = torch.randn(8, 8, 16)
    bad[2, 3, 5] = math.nan
    with torch.no_grad():
        out = {
            "attend": lambda: kernels.ops.attend(bad, [bad.transpose(0, 1).contiguous()], 1, 0.0, 0)[0],
            "attend_step": lambda: kernels.ops.attend_step(bad[2:3].transpose(0, 1), [bad], 1),
            "lstm": lambda: kernels.ops.lstm(bad.repeat(1, 1, 4), torch.randn(64, 16), bad[0], bad[0])[0],
            "boom": lambda: kernels.ops.activate_and_fold(bad, 16, 0.0, 0),
            "dropout": lambda: kernels.ops.dropout(bad, 0.01, 1),
        }[kernel]()
    assert out.isnan().any()


def test_checkpointed_activations_are_freed_and_the_masks_drawn_again(threads, monkeypatch):
    """Same loss and gradients, and the widest tensors of a layer, gates and Boom activations, are not kept."""
    network = SHARNN(SHARNNSizes(50, 32, 64, 2, (0,), 1, 40), SHARNNDropout(0.1, 0.1, 0.1, 0.1, 0.1, 0.1))
    tokens = torch.randint(50, (12, 16))
    wide = []
    for name in ("lstm", "activate_and_fold"):
        run = getattr(kernels.ops, name)
        watched = lambda x, *given, run=run: wide.append(StorageWeakRef(x.untyped_storage())) or run(x, *given)  # noqa: E731
        monkeypatch.setattr(kernels.ops, name, watched)
    found = []
    for checkpointed in (False, True):
        for block in network.blocks:
            block.checkpoint_activations = checkpointed
        network.zero_grad()
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
        (lambda o: o.attend_step(torch.zeros(1, 1, 6), [torch.zeros(1, 4, 5)], 1), "segments must be"),
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
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", __file__),
        env={"ATEN_CPU_CAPABILITY": "avx2", "PYTEST_ADDOPTS": ""},
        timeout=900,
    )
    assert finished.code == 0 and " passed" in finished.output and "not compiled" not in finished.output, (
        finished.output
    )
