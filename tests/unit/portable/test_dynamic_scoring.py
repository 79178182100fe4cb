"""Score first, learn after: no score depends on what is scored later, and each id is scored once."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.evaluation.dynamic import STATIC, DynamicSettings
from fairseq_sharnn.modules.sha_rnn import SHARNNSizes
from fairseq_sharnn.portable.config import AdaptiveConfig, PortableConfig
from fairseq_sharnn.portable.network import PortableNetwork
from fairseq_sharnn.portable.scoring import scored_chunks

VOCAB = 24
FAST = DynamicSettings(lr=0.05, clip=0.0)  # what is learned shows in every later score
LAST_BITS = 1e-5  # in bands the number of rows of a product depends on the text, and with it the order of its sums


def made(adaptive: bool):
    """A model with random weights: the paper's output, or bands."""
    sizes = SHARNNSizes(vocab=VOCAB, width=16, boom_width=32, layers=2, attention_layers=(0,), heads=1, context=12)
    bands = AdaptiveConfig((8, 16), 2.0, False) if adaptive else None
    torch.manual_seed(1)
    module = PortableNetwork(PortableConfig(sizes, "spaces", 8, adaptive=bands)).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    module.network.collapse()
    codec = SimpleNamespace(start=2, pad=1, vocab=VOCAB, unit="token")
    return SimpleNamespace(
        module=module, network=module.network, output=module.output, codec=codec, device=torch.device("cpu")
    )


MODELS = {name: made(name == "bands") for name in ("tied", "bands")}


def scores(name: str, ids: np.ndarray, lanes: int, chunk: int, dynamic: DynamicSettings):
    """-log p [N] of each id, and the chunk, lane and column [N] in which it is scored."""
    nats, order = np.full(len(ids), np.nan), np.full((len(ids), 3), -1)
    model, before = MODELS[name], 0
    for number, (part, log_probs) in enumerate(scored_chunks(model, ids, lanes, chunk, 0, dynamic)):
        scored = part.scored.numpy()
        places = part.places[scored]
        assert np.isnan(nats[places]).all(), "each id is scored once"
        nats[places] = -log_probs.numpy()
        column, lane = np.nonzero(scored)
        order[places] = np.stack([np.full(len(places), number), lane, before + column], axis=1)
        before += len(scored)
    assert not np.isnan(nats).any(), "no id is left out"
    return nats, order


@st.composite
def texts_and_changes(draw):
    size = draw(st.integers(2, 60))
    ids = draw(st.lists(st.integers(4, VOCAB - 1), min_size=size, max_size=size))
    lanes, chunk = draw(st.integers(1, min(size, 7))), draw(st.integers(1, 11))
    changed = draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=6))
    return np.array(ids), lanes, chunk, sorted(changed)


@pytest.mark.parametrize("optimizer", ["adam", "rms"])
@pytest.mark.parametrize("name", sorted(MODELS))
@given(case=texts_and_changes())
@settings(max_examples=25, deadline=None)
def test_no_score_depends_on_what_is_scored_later(name, optimizer, case):
    ids, lanes, chunk, changed = case
    dynamic = DynamicSettings(lr=0.05, optimizer=optimizer, decay=0.01, clip=0.0)
    other = ids.copy()
    other[changed] = 4 + (ids[changed] - 4 + 7) % (VOCAB - 4)
    nats, order = scores(name, ids, lanes, chunk, dynamic)
    others, _ = scores(name, other, lanes, chunk, dynamic)
    first = order[changed, 0].min()
    same = order[:, 0] < first  # all earlier chunks, in all lanes
    for lane in range(lanes):  # and in the first chunk that differs, each lane up to where it differs
        there = [column for _, own, column in order[changed] if own == lane]
        same |= (order[:, 0] == first) & (order[:, 1] == lane) & (order[:, 2] < min(there, default=1 << 30))
    if name == "tied":
        assert (nats[same] == others[same]).all()
    else:
        assert np.abs(nats[same] - others[same]).max(initial=0.0) < LAST_BITS


@pytest.mark.parametrize("name", sorted(MODELS))
def test_what_is_learned_reaches_all_lanes(name):
    """The property above is not empty: a change in one lane does change later scores of the others."""
    ids = np.arange(48) % 19 + 4
    other = ids.copy()
    other[0] = 20
    (nats, order), (others, _) = scores(name, ids, 4, 6, FAST), scores(name, other, 4, 6, FAST)
    later = (order[:, 0] > 0) & (order[:, 1] > 0)
    assert (np.abs(nats - others)[later] > LAST_BITS).all()
    (nats, _), (others, _) = scores(name, ids, 4, 6, STATIC), scores(name, other, 4, 6, STATIC)
    assert (np.abs(nats - others)[later] < LAST_BITS).all()


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_scores_are_those_of_a_plain_loop(name, lanes):
    """Cut by hand, scored with the full softmax, learned by torch's SGD."""
    ids, chunk, lr = np.random.default_rng(2).integers(4, VOCAB, 30), 4, 0.05
    nats, _ = scores(name, ids, lanes, chunk, DynamicSettings(lr, "sgd", clip=0.0))
    plain = made(name == "bands")
    for block in plain.module.network.blocks:
        if block.attention is not None:
            block.attention.value.expand_again()
    optimizer = torch.optim.SGD(plain.module.parameters(), lr=lr)
    lines = torch.from_numpy(ids).view(lanes, -1)  # 30 divides by 1 and by 3
    inputs = torch.cat([torch.full((lanes, 1), plain.codec.start), lines[:, :-1]], dim=1)
    state, expected = None, []
    for start in range(0, lines.size(1), chunk):
        features, state = plain.network(inputs[:, start : start + chunk].t(), state)
        log_probs = plain.output.log_probs(features.flatten(0, 1))
        targets = lines[:, start : start + chunk].t()
        loss = nn.functional.nll_loss(log_probs, targets.flatten(), reduction="none")
        expected.append(loss.detach().view(targets.shape))
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    assert np.abs(nats - torch.cat(expected).t().flatten().numpy()).max() < 1e-4


def test_the_model_is_as_it_was():
    model = MODELS["tied"]
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    static, _ = scores("tied", np.arange(30) % 19 + 4, 2, 5, STATIC)
    iterator = scored_chunks(model, np.arange(30) % 19 + 4, 2, 5, 0, FAST)
    next(iterator), next(iterator)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    iterator.close()  # as an exception in the loop around it, or the end of the program, does
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    assert (scores("tied", np.arange(30) % 19 + 4, 2, 5, STATIC)[0] == static).all()


def test_a_context_window_needs_one_lane():
    ids = np.arange(30) % 19 + 4
    with pytest.raises(UsageError, match=r"--context-window 3 .*--lanes 1"):
        next(scored_chunks(MODELS["tied"], ids, 2, 5, 3, FAST))
    assert next(scored_chunks(MODELS["tied"], ids, 1, 5, 3, FAST))[0].count == 5


def test_random_ids_cost_what_they_hold():
    """A model that learned what it scores before it scores it would get below ln 20 nats on uniform noise."""
    ids = np.random.default_rng(0).integers(4, VOCAB, 600)
    nats, _ = scores("tied", ids, 4, 3, DynamicSettings(lr=0.01))
    assert nats.mean() > np.log(VOCAB - 4) - 0.05
