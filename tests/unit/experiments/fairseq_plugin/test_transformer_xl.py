"""The Transformer with memory: what its memory holds, and that it is a state as SHA-RNN's is."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("x_transformers")

from experiments.fairseq_plugin.transformer_xl import (
    Memories,
    TransformerXLConfig,
    TransformerXLLanguageModel,
    XLNetwork,
)
from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary
from fairseq_sharnn.errors import UsageError


def config(**changes):
    values = {"decoder_embed_dim": 16, "decoder_ffn_embed_dim": 40, "decoder_layers": 2, "decoder_attention_heads": 2}
    return TransformerXLConfig(**{**values, "context_length": 24, "dropout": 0.0, **changes})


@pytest.fixture
def network():
    torch.manual_seed(1)
    return XLNetwork(config(), 50).eval()


@pytest.fixture
def tokens():
    return torch.randint(0, 50, (24, 3), generator=torch.Generator().manual_seed(2))


def in_chunks(network, tokens, *lengths):
    """Features of tokens [T, B] that are read in chunks of these lengths, and the last state."""
    features, state = [], None
    for chunk in tokens.split(list(lengths)):
        part, state = network(chunk, state)
        features.append(part)
    return torch.cat(features), state


def test_chunks_give_what_one_pass_gives_while_all_is_remembered(network, tokens):
    whole, _ = network(tokens, None)
    parts, state = in_chunks(network, tokens, 5, 1, 10, 8)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
    assert state.length == 23 and not any(layer.requires_grad for layer in state.layers)


def test_a_byte_that_has_left_the_context_of_every_layer_makes_no_difference(network, tokens):
    """With C 24, chunks of 12 and two layers, nothing before the last 36 bytes reaches the last chunk."""
    longer = torch.cat([tokens, tokens, tokens])
    other = longer.clone()
    other[:12] = (other[:12] + 1) % 50
    ours, theirs = (in_chunks(network, text, *[12] * 6)[0] for text in (longer, other))
    torch.testing.assert_close(ours[-12:], theirs[-12:], rtol=0, atol=0)
    near = longer.clone()
    near[-20] = (near[-20] + 1) % 50
    assert (in_chunks(network, near, *[12] * 6)[0][-12:] - ours[-12:]).abs().max() > 1e-4


def test_a_state_survives_a_checkpoint_and_a_choice_of_lanes(network, tokens):
    _, state = in_chunks(network, tokens[:12], 6, 6)
    again = Memories.from_dict(state.to_dict(), torch.device("cpu"))
    kept = torch.tensor([2, 0])
    ours, _ = network(tokens[12:], state)
    theirs, _ = network(tokens[12:][:, kept], again.select(kept))
    torch.testing.assert_close(theirs, ours[:, kept], rtol=1e-5, atol=1e-5)
    assert state.last(4).length == 4 and state.last(0).length == 0 and state.lanes == 3


def test_decoding_byte_by_byte_gives_what_one_pass_gives():
    torch.manual_seed(1)
    dictionary = ByteDictionary()
    task = SimpleNamespace(target_dictionary=dictionary)
    model = TransformerXLLanguageModel.build_model(config(), task).eval()
    tokens = torch.randint(4, len(dictionary), (2, 9))
    whole = model(tokens)[0]
    store = {}
    steps = [model(tokens[:, : n + 1], incremental_state=store)[0][:, -1] for n in range(9)]
    torch.testing.assert_close(torch.stack(steps, dim=1), whole, rtol=1e-5, atol=1e-5)


def test_a_width_that_rotary_positions_cannot_take_is_refused():
    task = SimpleNamespace(target_dictionary=ByteDictionary())
    with pytest.raises(UsageError, match="--decoder-embed-dim 18 is not a multiple of 8, four times --decoder"):
        TransformerXLLanguageModel.build_model(config(decoder_embed_dim=18), task)
