import pytest
import torch

from fairseq_sharnn.modules.overparameterized import OverparameterizedVector


@pytest.fixture
def vector():
    torch.manual_seed(0)
    vector = OverparameterizedVector(8).double()
    torch.nn.init.normal_(vector.gate)
    return vector


def test_follows_the_formula(vector):
    c, f = (vector.expand.weight @ torch.sigmoid(vector.gate) + vector.expand.bias).split(8)
    torch.testing.assert_close(vector(), torch.sigmoid(f) * torch.tanh(c))


def test_collapse_keeps_the_output_and_costs_no_product(vector, monkeypatch):
    before = vector().detach()
    vector.eval()
    vector.collapse()
    monkeypatch.setattr(vector.expand, "forward", lambda x: pytest.fail("the network ran although it is collapsed"))
    torch.testing.assert_close(vector(), before, rtol=0, atol=1e-6)


def test_collapsed_checkpoint_stays_trainable(vector):
    vector.eval()
    vector.collapse()
    other = OverparameterizedVector(8).double()
    other.load_state_dict(vector.state_dict())
    torch.testing.assert_close(other(), vector())
    other().sum().backward()
    assert other.gate.grad.abs().sum() > 0


def test_training_again_undoes_the_collapse(vector):
    vector.eval()
    vector.collapse()
    vector.train()
    with torch.no_grad():
        vector.gate += 1
    c, f = (vector.expand.weight @ torch.sigmoid(vector.gate) + vector.expand.bias).split(8)
    torch.testing.assert_close(vector(), torch.sigmoid(f) * torch.tanh(c))


def test_a_cast_recomputes_the_stored_vector(vector):
    vector.eval()
    vector.collapse()
    assert vector.float()().dtype == torch.float32
