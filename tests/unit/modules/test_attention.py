from contextlib import contextmanager

import pytest
import torch

from fairseq_sharnn.modules import attention as attention_module
from fairseq_sharnn.modules.attention import MemoryAttention, attend_memory, parse_attention_layers
from fairseq_sharnn.modules.memory import Memory
from fairseq_sharnn.reference import PlainAttention


def randomised(width: int, heads: int, rate: float = 0.0) -> MemoryAttention:
    torch.manual_seed(width + heads)
    attention = MemoryAttention(width, heads, rate).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return attention


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_autocast_attends_in_its_type_forward_and_backward(rate):
    """Under CUDA's autocast softmax answers in float32: weights saved so would meet values in half precision."""
    torch.manual_seed(0)
    query, chunk = (torch.randn(2, 4, 12, requires_grad=True) for _ in range(2))
    rows = torch.cat([torch.randn(2, 9, 12), chunk.detach()], dim=1)
    with torch.autocast("cpu", torch.bfloat16), softmax_in_float32():
        out = attend_memory(query, chunk, [rows], 2, rate)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert query.grad.dtype == chunk.grad.dtype == torch.float32 and query.grad.isfinite().all()
    if rate == 0.0:
        torch.testing.assert_close(out.float(), attend_memory(query, chunk, [rows], 2, 0.0), rtol=0.05, atol=0.05)


@contextmanager
def softmax_in_float32():
    """What autocast does to softmax on CUDA, where it is on."""
    original = torch.softmax

    def softmax(scores, dim):
        return original(scores.float() if torch.is_autocast_enabled("cpu") else scores, dim=dim)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "softmax", softmax)
        yield


@pytest.mark.parametrize(
    "heads, past, length, context", [(1, 9, 5, 20), (3, 9, 5, 11), (2, 0, 4, 8), (1, 6, 7, 7), (1, 6, 7, 3)]
)
def test_equals_the_formulas_written_out(heads, past, length, context):
    """Output and every gradient, with memory cut, empty, or T >= C."""
    attention = randomised(12, heads)
    plain = PlainAttention(12, heads, 0.0).double()
    plain.load_state_dict(attention.state_dict())
    h, m = (torch.randn(length, 2, 12, dtype=torch.float64, requires_grad=True) for _ in range(2))
    old = torch.randn(past, 2, 12, dtype=torch.float64)
    rows = torch.cat([old[max(0, past - max(0, context - length)) :], m])
    seen = Memory.from_rows(old.transpose(0, 1)).extended(m.transpose(0, 1), context).segments
    out = attention(h, m, seen)
    expected = plain(h, rows)
    torch.testing.assert_close(out, expected)
    weights = torch.randn_like(out)
    ours = torch.autograd.grad((out * weights).sum(), [h, m, *attention.parameters()])
    theirs = torch.autograd.grad((expected * weights).sum(), [h, m, *plain.parameters()])
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("group", [1, 10**9])
def test_dropout_falls_on_values_and_on_attention_weights(monkeypatch, group):
    """The masks drawn, replayed through plain formulas: same output, same gradients; in groups of lanes and at once."""
    monkeypatch.setattr(attention_module, "_CPU_GROUP_SCORES", group)
    torch.manual_seed(0)
    lanes, length, total, heads, width, rate = 3, 4, 9, 2, 6, 0.25
    drawn = []

    def recording(shape, rate, device):
        drawn.append(torch.rand(shape) >= rate)
        return drawn[-1]

    monkeypatch.setattr(attention_module, "keep_mask", recording)
    q, m = (torch.randn(lanes, length, width, dtype=torch.float64, requires_grad=True) for _ in range(2))
    past = torch.randn(lanes, total - length, width, dtype=torch.float64)
    rows = torch.cat([past, m], dim=1)
    out = attend_memory(q, m, rows.detach().split([2, 6, 1], dim=1), heads, rate)
    grads = torch.autograd.grad(out.pow(2).sum(), (q, m))

    if group == 1:  # drawn lane by lane: values, then each head's weights
        value_mask = torch.cat(drawn[:: heads + 1])
        score_masks = [torch.cat(drawn[1 + j :: heads + 1]) for j in range(heads)]
    else:
        value_mask, *score_masks = drawn
    scale = 1 / (1 - rate)
    future = torch.ones(length, total, dtype=torch.bool).triu(total - length + 1)
    parts = []
    for j in range(heads):
        columns = slice(j * 3, j * 3 + 3)
        weights = (q[..., columns] @ rows[..., columns].transpose(1, 2)).masked_fill(future, -torch.inf).softmax(-1)
        parts.append((weights * score_masks[j] * scale) @ (rows * value_mask * scale)[..., columns])
    expected = torch.cat(parts, dim=-1)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(grads, torch.autograd.grad(expected.pow(2).sum(), (q, m)))


def test_dropout_keeps_the_mean():
    torch.manual_seed(0)
    attention = randomised(8, 1, rate=0.3)
    h, m = torch.randn(3, 400, 8, dtype=torch.float64), torch.randn(3, 400, 8, dtype=torch.float64)
    h, m = h[:, :1].expand(-1, 4000, -1), m[:, :1].expand(-1, 4000, -1)
    memory = Memory.from_rows(torch.randn(1, 5, 8, dtype=torch.float64).expand(4000, -1, -1))
    q = torch.randn(4000, 3, 8, dtype=torch.float64)[:1].expand(4000, -1, -1)
    chunk = m.transpose(0, 1)
    rows = memory.extended(chunk, 50).segments
    dropped = attend_memory(q, chunk, rows, 1, 0.3).mean(0)
    kept = attend_memory(q[:1], chunk[:1], [piece[:1] for piece in rows], 1, 0.0)[0]
    assert (dropped - kept).abs().max() < 0.1
    assert attention.training


@pytest.mark.parametrize("heads", [0, 5])
def test_heads_must_divide_the_width(heads):
    with pytest.raises(ValueError, match="must divide the model width"):
        MemoryAttention(12, heads)


@pytest.mark.parametrize(
    "text, layers, expected",
    [
        ("none", 4, ()),
        ("all", 3, (0, 1, 2)),
        ("second-to-last", 4, (2,)),
        ("1,3", 4, (1, 3)),
        ("3, 1", 4, (1, 3)),
        ("[0]", 1, (0,)),
    ],
)
def test_choice_of_layers(text, layers, expected):
    assert parse_attention_layers(text, layers) == expected


@pytest.mark.parametrize(
    "text, layers, message",
    [
        ("4", 4, "layer 4 does not exist"),
        ("-1", 4, "layer -1"),
        ("last", 4, "'last' is not"),
        ("second-to-last", 1, "no second-to-last"),
    ],
)
def test_impossible_choices_of_layers(text, layers, message):
    with pytest.raises(ValueError, match=message):
        parse_attention_layers(text, layers)
