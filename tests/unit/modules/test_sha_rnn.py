import math

import pytest
import torch

from fairseq_sharnn.modules.block import Block
from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNDropout, SHARNNSizes
from fairseq_sharnn.ops import dropout as dropout_module
from fairseq_sharnn.reference import PlainSHARNN

NO_DROPOUT = SHARNNDropout(0, 0, 0, 0, 0, 0)


def randomised(sizes: SHARNNSizes, rates: SHARNNDropout = NO_DROPOUT, **settings) -> SHARNN:
    torch.manual_seed(1)
    model = SHARNN(sizes, rates, **settings).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


@pytest.mark.parametrize("context, chunks", [(6, [9, 4, 7, 1]), (9, [9, 9, 3]), (40, [5, 11, 1, 8])])
def test_equals_the_formulas_written_out_over_chunks(context, chunks):
    """Also for T >= C, which golden tensors do not cover."""
    sizes = SHARNNSizes(20, 8, 19, 3, (0, 2), 2, context)
    model = randomised(sizes)
    plain = PlainSHARNN(sizes, NO_DROPOUT).double()
    plain.load_state_dict(model.state_dict())
    ours = theirs = None
    for length in chunks:
        tokens = torch.randint(0, 20, (length, 3))
        features, ours = model(tokens, ours)
        expected, theirs = plain(tokens, theirs)
        torch.testing.assert_close(features, expected)
        for layer, (hidden, cell, memory) in zip(ours.layers, theirs):
            torch.testing.assert_close(layer.hidden, hidden)
            torch.testing.assert_close(layer.cell, cell)
            if memory is not None:
                torch.testing.assert_close(layer.memory.rows.transpose(0, 1), memory)
        weights = torch.randn_like(features)
        grads = torch.autograd.grad(
            (model.logits(features) ** 2).sum() + (features * weights).sum(), list(model.parameters())
        )
        plain_grads = torch.autograd.grad(
            (plain.logits(expected) ** 2).sum() + (expected * weights).sum(), list(plain.parameters())
        )
        torch.testing.assert_close(grads, plain_grads)


def test_token_by_token_equals_a_whole_chunk():
    model = randomised(SHARNNSizes(20, 8, 16, 4, (2,), 1, 50)).eval()
    tokens = torch.randint(0, 20, (30, 2))
    whole, _ = model(tokens)
    state, steps = None, []
    for token in tokens:
        features, state = model(token[None], state)
        steps.append(features)
    torch.testing.assert_close(torch.cat(steps), whole)


def test_nothing_of_the_future_is_seen():
    model = randomised(SHARNNSizes(20, 8, 16, 3, (0, 1, 2), 1, 50)).eval()
    tokens = torch.randint(0, 20, (12, 2))
    changed = tokens.clone()
    changed[7:] = (changed[7:] + 1) % 20
    torch.testing.assert_close(model(tokens)[0][:7], model(changed)[0][:7])
    assert not torch.allclose(model(tokens)[0][7:], model(changed)[0][7:])


def test_lanes_do_not_mix():
    model = randomised(SHARNNSizes(20, 8, 16, 3, (1,), 1, 50)).eval()
    first, second = torch.randint(0, 20, (2, 6, 3))
    _, state = model(first)
    features, _ = model(second, state)
    _, alone = model(first[:, 1:2])
    torch.testing.assert_close(model(second[:, 1:2], alone)[0], features[:, 1:2])
    _, two = model(first)
    torch.testing.assert_close(model(second[:, [2, 0]], two.select(torch.tensor([2, 0])))[0], features[:, [2, 0]])


def test_gradients_stop_at_the_chunk():
    model = randomised(SHARNNSizes(20, 8, 16, 3, (1,), 1, 50))
    _, state = model(torch.randint(0, 20, (5, 2)))
    for layer in state.layers:
        assert not layer.hidden.requires_grad and not layer.cell.requires_grad


@pytest.mark.parametrize(
    "layers, millions, collapsed", [((), 50.6, 50.6), ((2,), 53.8, 51.7), ((0, 1, 2, 3), 63.2, 54.9)]
)
def test_size_at_the_papers_widths(layers, millions, collapsed):
    """Spec, "Size", V 205; the numbers there are rounded to 0.1 M."""
    with torch.device("meta"):
        model = SHARNN(SHARNNSizes(vocab=205, attention_layers=layers))
    total = sum(parameter.numel() for parameter in model.parameters())
    saved = sum(
        block.attention.value.expand.weight.numel() + block.attention.value.expand.bias.numel()
        for block in model.blocks
        if block.attention
    )
    assert total / 1e6 == pytest.approx(millions, abs=0.06)
    assert (total - saved) / 1e6 == pytest.approx(collapsed, abs=0.06)


def test_initial_values():
    torch.manual_seed(0)
    model = SHARNN(SHARNNSizes(300, 64, 256, 4))
    for name, parameter in model.named_parameters():
        if "lstm" in name:
            assert parameter.abs().max() <= 1 / math.sqrt(64)
            assert parameter.std().item() == pytest.approx(1 / math.sqrt(64 * 3), rel=0.15)
        elif ".ln_" in name:
            assert (parameter == (1 if name.endswith("weight") else 0)).all()
        elif parameter.dim() == 2:
            assert parameter.std().item() == pytest.approx(0.1 / math.sqrt(64), rel=0.1)
            assert abs(parameter.mean().item()) < 0.002
        else:
            assert (parameter == 0).all(), name


@pytest.mark.parametrize("site", ["input", "hidden", "attention", "boom", "output", "dropconnect"])
def test_each_dropout_site_acts_by_itself_and_only_in_training(site):
    rates = dict.fromkeys(("input", "hidden", "attention", "boom", "output", "dropconnect"), 0.0)
    model = randomised(SHARNNSizes(20, 8, 16, 2, (0,), 1, 50), SHARNNDropout(**{**rates, site: 0.5}))
    tokens = torch.randint(0, 20, (6, 2))
    assert not torch.equal(model(tokens)[0], model(tokens)[0])
    model.eval()
    assert torch.equal(model(tokens)[0], model(tokens)[0])


def test_dropconnect_masks_the_recurrent_weights(monkeypatch):
    torch.manual_seed(0)
    block = Block(SHARNNSizes(1, 4, 8), SHARNNDropout(0, 0, 0, 0, 0, 0.5), attends=False).double()
    mask = torch.rand(16, 4) < 0.5
    monkeypatch.setattr(dropout_module, "keep_mask", lambda shape, rate, device: mask)
    x = torch.randn(5, 2, 4, dtype=torch.float64)
    masked, _ = block(x, None)
    with torch.no_grad():
        block.lstm.weight_hh_l0.mul_(mask * 2.0)
    block.eval()
    torch.testing.assert_close(block(x, None)[0], masked)


@pytest.mark.parametrize("cast", [torch.nn.Module.double, torch.nn.Module.half])
def test_the_lstm_gets_the_flat_weights_that_cudnn_needs(cast):
    """The very tensors that nn.LSTM would pass: on a GPU they lie in one buffer, and cuDNN copies nothing."""
    block = cast(Block(SHARNNSizes(1, 4, 8), NO_DROPOUT, attends=False))
    weights = list(block.lstm.all_weights[0])
    assert len(weights) == 4
    assert all(ours is theirs for ours, theirs in zip(weights, block.lstm._flat_weights))


def test_under_autocast_memory_is_rounded_once_as_attention_would_each_time():
    class NormOfCuda(torch.nn.LayerNorm):
        """CUDA's autocast has layer norms answer in float32, the CPU's in its own type."""

        def forward(self, x):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())

    torch.manual_seed(1)
    model = SHARNN(SHARNNSizes(20, 8, 16, 2, (0,), 1, 11), NO_DROPOUT, layer_norm=NormOfCuda)
    tokens = torch.randint(0, 20, (3, 5, 2))
    with torch.autocast("cpu", torch.bfloat16):
        _, state = model(tokens[0])
        assert state.layers[0].memory.rows.dtype == torch.bfloat16
        following, _ = model(tokens[1], state)
        wide = state.map(torch.Tensor.float)  # such as one that was rebuilt outside autocast
        again, after = model(tokens[1], wide)
        assert torch.equal(following, again) and after.layers[0].memory.rows.dtype == torch.bfloat16
    outside, after = model(tokens[2], after)
    assert outside.dtype == after.layers[0].memory.rows.dtype == torch.float32


def test_state_of_other_lanes_is_refused():
    model = randomised(SHARNNSizes(20, 8, 16, 2, (0,), 1, 50))
    _, state = model(torch.zeros(3, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="2 lanes, but the chunk has 3"):
        model(torch.zeros(3, 3, dtype=torch.long), state)


def test_collapse_keeps_the_output():
    model = randomised(SHARNNSizes(20, 8, 16, 3, (0, 1), 1, 50)).eval()
    tokens = torch.randint(0, 20, (9, 2))
    before, _ = model(tokens)
    model.collapse()
    torch.testing.assert_close(model(tokens)[0], before, rtol=0, atol=1e-6)


def test_layer_norm_factory_makes_every_layer_norm():
    made = []

    def factory(width, eps):
        made.append(eps)
        return torch.nn.LayerNorm(width, eps=eps)

    SHARNN(SHARNNSizes(20, 8, 16, 2, (0,), 1, 50), layer_norm=factory)
    assert made == [1e-12] * (3 * 2 + 3)


def test_checkpointed_activations_give_the_same_gradients_with_less_kept():
    sizes = SHARNNSizes(20, 16, 64, 3, (0, 1), 1, 200)
    rates = SHARNNDropout(0.1, 0.1, 0.1, 0.1, 0.1, 0.1)
    tokens = torch.randint(0, 20, (2, 40, 3))
    results, kept = [], []
    for checkpointed in (False, True):
        model = randomised(sizes, rates, checkpoint_activations=checkpointed)
        _, state = model(tokens[0])
        torch.manual_seed(5)
        bytes_kept = 0

        def pack(tensor):
            nonlocal bytes_kept
            bytes_kept += tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            features, _ = model(tokens[1], state)
        features.pow(2).sum().backward()
        results.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
        kept.append(bytes_kept)
    assert all(torch.equal(a, b) for a, b in zip(*results)) and len(results[0]) == len(results[1])
    assert kept[1] < 0.6 * kept[0]
