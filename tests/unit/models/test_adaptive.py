"""Adaptive softmax over tied bands, in the model."""

import logging

import pytest
import torch
from fairseq.criterions.adaptive_loss import AdaptiveLoss
from fairseq.data import Dictionary

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.models.sha_rnn import SHARNNConfig, SHARNNLanguageModel


class Task:
    def __init__(self, symbols):
        self.target_dictionary = Dictionary()
        for number in range(symbols - len(self.target_dictionary)):
            self.target_dictionary.add_symbol(f"w{number}")


def model(vocab=300, **options) -> SHARNNLanguageModel:
    torch.manual_seed(0)
    sizes = {"decoder_embed_dim": 32, "boom_dim": 64, "decoder_layers": 2, "context_length": 50, "dropout": 0.0}
    return SHARNNLanguageModel.build_model(SHARNNConfig(**{**sizes, **options}), Task(vocab))


def sample(vocab=300):
    tokens = torch.randint(4, vocab, (2, 12))
    return {"net_input": {"src_tokens": tokens}, "target": torch.randint(4, vocab, (2, 12)), "ntokens": 24}


@pytest.mark.parametrize("proj", [False, True])
def test_loss_of_the_bands_is_that_of_one_distribution(proj):
    network = model(adaptive_softmax_cutoff="20,100", tie_adaptive_proj=proj)
    batch = sample()
    loss, count, _ = AdaptiveLoss(Task(300), sentence_avg=False)(network, batch)
    out = network(**batch["net_input"])
    whole = network.get_normalized_probs(out, log_probs=True)
    torch.testing.assert_close(whole.exp().sum(-1), torch.ones(2, 12))
    expected = -whole.gather(-1, batch["target"].unsqueeze(-1)).sum()
    torch.testing.assert_close(loss[0], expected, rtol=1e-5, atol=1e-4)
    assert count == 24
    loss.backward()
    assert all(p.grad is not None for p in network.decoder.network.embed.embeddings[0].parameters())


def test_autocast_embeds_in_the_embeddings_type():
    """As --amp on a GPU: fairseq puts what the bands' projections answer in half precision into a float32 tensor."""
    embed, tokens = model(adaptive_softmax_cutoff="20,100").decoder.network.embed, torch.randint(4, 300, (2, 50))
    with torch.autocast("cpu", torch.bfloat16):
        embedded = embed(tokens)
    embedded.sum().backward()
    torch.testing.assert_close(embedded, embed(tokens), rtol=2e-2, atol=2e-2)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in embed.parameters())


def test_every_symbol_has_its_loss():
    """Symbol 1 is padding. Number 1 of a later band is not."""
    network = model(adaptive_softmax_cutoff="20,100").eval()
    targets = torch.cat([torch.tensor([1]), torch.arange(4, 300)])[None]
    batch = {"net_input": {"src_tokens": torch.full_like(targets, 5)}, "target": targets}
    losses, count, logged = AdaptiveLoss(Task(300), sentence_avg=False)(network, batch, reduce=False)
    whole = network.get_normalized_probs(network(**batch["net_input"]), log_probs=True)[0]
    torch.testing.assert_close(losses[1:], -whole.gather(-1, targets[0, :, None])[1:, 0], rtol=1e-5, atol=1e-5)
    assert losses[0] == 0 and count == 296 == logged["ntokens"]
    network.zero_grad()
    losses[targets[0] == 21].sum().backward()
    row = network.decoder.network.embed.embeddings[1][0].weight.grad[1]
    assert row.abs().max() > 0


def test_every_row_of_the_later_bands_starts_like_the_others():
    embed = model(adaptive_softmax_cutoff="20,100").decoder.network.embed
    assert all(row.abs().max() > 0 for band, _ in list(embed.embeddings)[1:] for row in band.weight)
    assert embed.embeddings[0][0].weight[1].abs().max() == 0, "padding"


def test_half_precision_neither_overflows_nor_rounds_the_probabilities():
    network = model(adaptive_softmax_cutoff="20,100").eval()
    features, targets = torch.randn(16, 1024, 32), torch.randint(4, 300, (16, 1024))

    class Fixed(torch.nn.Module):
        decoder = network.decoder
        get_targets = staticmethod(network.get_targets)

        def forward(self, src_tokens):
            return (src_tokens,)

    def cost(features):
        batch = {"net_input": {"src_tokens": features}, "target": targets}
        return AdaptiveLoss(Task(300), sentence_avg=False)(Fixed(), batch)[0]

    exact = cost(features)
    network.half()
    halved = cost(features.half())
    assert halved.dtype == torch.float32 and exact.item() > 65504
    torch.testing.assert_close(halved, exact, rtol=1e-3, atol=0.0)
    halved.backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    out = network.get_normalized_probs((features[:1, :5].half(), {}), log_probs=False)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.sum(-1), torch.ones(1, 5))


@pytest.mark.parametrize("proj", [False, True])
def test_bands_are_tied_to_the_embedding(proj):
    network = model(adaptive_softmax_cutoff="20,100", tie_adaptive_proj=proj)
    embed, softmax = network.decoder.network.embed, network.decoder.adaptive_softmax
    for band in (1, 2):
        weight, projection = embed.weights_for_band(band)
        assert softmax.tail[band - 1][2].weight is weight
        assert (softmax.tail[band - 1][0].weight is projection) == proj
    assert softmax.head.word_proj.weight is embed.weights_for_band(0)[0]
    assert not hasattr(network.decoder.network, "output_bias")


def test_parameters_load_and_other_vocabularies_are_refused():
    network = model(adaptive_softmax_cutoff="20,100")
    other = model(adaptive_softmax_cutoff="20,100", dropout=0.5)
    other.load_state_dict(network.state_dict())
    tokens = sample()["net_input"]["src_tokens"]
    assert torch.equal(other.eval()(tokens)[0], network.eval()(tokens)[0])
    with pytest.raises(UsageError, match="vocabulary of 300 symbols, but the task has 301"):
        model(301, adaptive_softmax_cutoff="20,100").load_state_dict(network.state_dict())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"adaptive_softmax_cutoff": "a,b"}, "--adaptive-softmax-cutoff takes rising numbers"),
        ({"adaptive_softmax_cutoff": "100,20"}, "--adaptive-softmax-cutoff takes rising numbers"),
        ({"adaptive_softmax_cutoff": "0,20"}, "--adaptive-softmax-cutoff takes rising numbers"),
        ({"adaptive_softmax_cutoff": "20,300"}, "goes past the vocabulary of 300 symbols"),
        ({"adaptive_softmax_cutoff": "1,20"}, "leaves the first band no more than fairseq's 4 special symbols"),
        ({"adaptive_softmax_cutoff": "4,20"}, "begin with 5 or more"),
        ({"adaptive_softmax_cutoff": "20,21"}, "leaves a band of the 300 symbols with a single one"),
        ({"adaptive_softmax_cutoff": "20,299"}, "leaves a band of the 300 symbols with a single one"),
        ({"adaptive_softmax_cutoff": "20,100", "adaptive_softmax_factor": 6}, "--adaptive-softmax-factor 6"),
        ({"adaptive_softmax_cutoff": "20,100", "adaptive_softmax_factor": 0.5}, "--adaptive-softmax-factor 0.5"),
        ({"adaptive_softmax_cutoff": "20", "adaptive_softmax_dropout": 1.0}, "--adaptive-softmax-dropout must be in"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        model(**options)


def test_the_smallest_bands_that_are_allowed_work():
    network = model(adaptive_softmax_cutoff="5,7,298", adaptive_softmax_factor=2)
    loss, _, _ = AdaptiveLoss(Task(300), sentence_avg=False)(network, sample())
    loss.backward()
    assert torch.isfinite(loss).all()


def test_a_large_plain_softmax_warns_and_names_the_adaptive_one(caplog):
    with caplog.at_level(logging.WARNING):
        model(50_000)
        assert not caplog.records
        model(50_001)
    assert [record.getMessage() for record in caplog.records] == [
        "a plain softmax over 50,001 symbols takes much memory and time: use --adaptive-softmax-cutoff 20000,60000 "
        "(numbers that fit your vocabulary) --criterion adaptive_loss --ddp-backend legacy_ddp"
    ]
