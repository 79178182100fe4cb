import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_MODEL_REGISTRY
from omegaconf import OmegaConf

from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary
from fairseq_sharnn.data.streams.carrier import StreamCarrier, StreamChunk
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.models.sha_rnn import (
    SHARNNConfig,
    SHARNNDecoder,
    SHARNNLanguageModel,
    rates_of,
    sizes_of,
)
from fairseq_sharnn.modules.ablations import FeedForward, PlainVector
from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNDropout, SHARNNSizes
from tests.conftest import USER_DIR


def random_model(attention_layers=(2,), heads=1) -> SHARNNLanguageModel:
    torch.manual_seed(0)
    network = SHARNN(SHARNNSizes(260, 16, 40, 4, attention_layers, heads, 30), SHARNNDropout(0, 0, 0, 0, 0, 0))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return SHARNNLanguageModel(SHARNNDecoder(ByteDictionary(), network.double())).eval()


def log_probs(model, out):
    return model.get_normalized_probs(out, log_probs=True, sample=None)


@pytest.mark.parametrize("attention_layers, heads", [((), 1), ((2,), 1), ((0, 1, 2, 3), 2)])
def test_incremental_decoding_equals_a_whole_chunk(attention_layers, heads):
    model = random_model(attention_layers, heads)
    tokens = torch.randint(4, 260, (3, 25))
    whole = log_probs(model, model(tokens))
    state, steps = {}, []
    for step in range(tokens.size(1)):  # fairseq's generator hands over all tokens so far
        steps.append(log_probs(model, model.decoder(tokens[:, : step + 1], incremental_state=state)))
    assert all(step.size(1) == 1 for step in steps)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=0, atol=1e-5)
    state = {}
    parts = [model.decoder(tokens[:, :n], incremental_state=state) for n in (10, 11, 25)]
    torch.testing.assert_close(torch.cat([log_probs(model, part) for part in parts], 1), whole, rtol=0, atol=1e-5)


def test_reordering_moves_whole_lanes():
    model = random_model()
    tokens = torch.randint(4, 260, (3, 12))
    order = torch.tensor([2, 0, 2, 1])
    state = {}
    model.decoder(tokens[:, :11], incremental_state=state)
    model.decoder.reorder_incremental_state_scripting(state, order)
    step = model.decoder(tokens[order], incremental_state=state)
    torch.testing.assert_close(log_probs(model, step)[:, 0], log_probs(model, model(tokens[order]))[:, -1])


def test_an_order_that_changes_nothing_copies_nothing():
    """fairseq's generator reorders at every step, also with one beam."""
    model = random_model()
    state = {}
    model.decoder(torch.randint(4, 260, (3, 5)), incremental_state=state)
    before = model.decoder.get_incremental_state(state, "stream")[1]
    model.decoder.reorder_incremental_state_scripting(state, torch.arange(3))
    assert model.decoder.get_incremental_state(state, "stream")[1] is before


def test_chunks_of_a_stream_equal_one_long_chunk():
    model = random_model()
    tokens = torch.randint(4, 260, (2, 24))
    carrier = StreamCarrier()
    parts = [
        model(part, stream=StreamChunk(index, index == 0, carrier))[0]
        for index, part in enumerate(tokens.split(6, dim=1))
    ]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens)[0])
    torch.testing.assert_close(model(tokens[:, :6], stream=StreamChunk(0, True, carrier))[0], parts[0])


def test_prepared_for_inference_keeps_the_output():
    model = random_model()
    tokens = torch.randint(4, 260, (2, 9))
    before = model(tokens)[0]
    model.make_generation_fast_()
    assert model.decoder.network.blocks[2].attention.value._collapsed is not None
    torch.testing.assert_close(model(tokens)[0], before, rtol=0, atol=1e-6)


ARCHITECTURES = {
    "sha_rnn": (1024, 4096, (2,)),
    "sha_rnn_full": (1024, 4096, (0, 1, 2, 3)),
    "sha_rnn_no_head": (1024, 4096, ()),
    "sha_rnn_small": (256, 1024, (2,)),
    "sha_rnn_tiny": (128, 512, (2,)),
}


def test_named_architectures():
    names = {name for name, model in ARCH_MODEL_REGISTRY.items() if model is SHARNNLanguageModel}
    assert names == set(ARCHITECTURES)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_sizes_of_named_architectures(arch):
    """Through fairseq's own parser, where an architecture's function sets what the command line does not."""
    common = ["data", "--user-dir", USER_DIR, "--task", "byte_level_lm", "--arch", arch]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), common))
    width, boom_width, layers = ARCHITECTURES[arch]
    assert sizes_of(cfg.model, 260) == SHARNNSizes(260, width, boom_width, 4, layers, 1, 5000)
    chosen = [*common, "--decoder-embed-dim", "64", "--boom-dim", "100", "--attention-layers", "0,1"]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), chosen))
    assert sizes_of(cfg.model, 260) == SHARNNSizes(260, 64, 100, 4, (0, 1), 1, 5000)


def test_attention_layers_may_be_a_list_as_in_a_hydra_config():
    cfg = OmegaConf.merge(OmegaConf.structured(SHARNNConfig), {"attention_layers": [0, 3]})
    assert sizes_of(cfg, 260).attention_layers == (0, 3)


def test_defaults_are_the_papers():
    cfg = SHARNNConfig()
    assert sizes_of(cfg, 260) == SHARNNSizes(260, 1024, 4096, 4, (2,), 1, 5000)
    assert rates_of(cfg) == SHARNNDropout(0.1, 0.1, 0.1, 0.1, 0.1, 0.0)
    assert rates_of(SHARNNConfig(dropout=0.2, boom_dropout=0.0)) == SHARNNDropout(0.2, 0.2, 0.2, 0.0, 0.2, 0.0)


def test_what_the_ablations_replace():
    """Plain vectors instead of over-parameterised ones, a full feed-forward layer (of any width) instead of Boom."""
    torch.manual_seed(0)
    cfg = SHARNNConfig(decoder_embed_dim=8, boom_dim=4, static_vectors="plain", feed_forward="full")
    network = SHARNN(sizes_of(cfg, 260), rates_of(cfg))
    (attending,) = [block for block in network.blocks if block.attention is not None]
    assert isinstance(attending.attention.value, PlainVector)
    assert all(isinstance(block.boom, FeedForward) for block in network.blocks)
    network.eval()
    network.collapse()
    tokens, state, steps = torch.randint(4, 260, (5, 2)), None, []
    with torch.no_grad():
        whole, _ = network(tokens)
        for token in tokens.split(1):  # generation goes its own way on CPU
            features, state = network(token, state)
            steps.append(features)
    torch.testing.assert_close(torch.cat(steps), whole)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"boom_dim": 512}, "--boom-dim 512 is below --decoder-embed-dim 1024"),
        ({"attention_heads": 3}, "--attention-heads 3 does not divide --decoder-embed-dim 1024"),
        ({"attention_layers": "7"}, "--attention-layers: layer 7 does not exist"),
        ({"attention_layers": "-1"}, "--attention-layers: layer -1 does not exist"),
        ({"attention_layers": "some"}, "--attention-layers: 'some' is not a choice"),
        ({"context_length": 0}, "--context-length must be at least 1"),
        ({"decoder_layers": 0}, "--decoder-layers must be at least 1"),
        ({"dropout": 1.0}, r"--dropout must be in \[0, 1\)"),
        ({"attention_dropout": -0.5}, "--attention-dropout must be in"),
        ({"dropconnect": 1.5}, "--dropconnect must be in"),
        ({"static_vectors": "bare"}, "--static-vectors must be one of overparameterized, plain, but it is bare"),
        ({"feed_forward": "swiglu"}, "--feed-forward must be one of boom, full, but it is swiglu"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        cfg = SHARNNConfig(**options)
        sizes_of(cfg, 260)
        rates_of(cfg)


def test_parameters_of_another_model_or_vocabulary_are_refused():
    model = random_model()
    state = model.state_dict()
    with pytest.raises(UsageError, match="vocabulary of 100 symbols, but the task has 260"):
        model.load_state_dict({**state, "decoder.network.embed.weight": torch.zeros(100, 16)})
    with pytest.raises(UsageError, match="not one of a sha_rnn model"):
        model.load_state_dict({"decoder.embed_tokens.weight": torch.zeros(3, 3)})
