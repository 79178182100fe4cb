import pytest
import torch

from experiments.harness.decoding import StepwiseDecoder, tokens_kept
from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary

EOS = ByteDictionary().eos()


class Recorder(torch.nn.Module):
    """Stands for a Transformer: writes down which tokens it was shown at each step, as fairseq's decoders see them."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.calls = []

    def decoder(self, tokens, incremental_state):
        incremental_state["steps"] = incremental_state.get("steps", 0) + 1
        self.calls.append((tokens[0].tolist(), incremental_state["steps"]))
        return (torch.zeros(1, tokens.size(1), 260),)


def test_decoding_slides_where_positions_end():
    model = Recorder()
    decoder = StepwiseDecoder(model, EOS, window=6)
    for token in range(10, 20):
        decoder.step(token)
    assert all(len(tokens) <= 6 for tokens, _ in model.calls)
    assert all(steps == len(tokens) for tokens, steps in model.calls)  # every position is fed once, in order
    assert model.calls[0][0] == [EOS] and model.calls[-1][0][-1] == 19
    assert sum(steps == 1 for _, steps in model.calls) == 3  # the start, and two slides


def test_decoding_without_an_end():
    model = Recorder()
    decoder = StepwiseDecoder(model, EOS, window=None)
    for token in range(20):
        decoder.step(token)
    assert [tokens for tokens, _ in model.calls] == [[token] for token in decoder.tokens]
    assert [steps for _, steps in model.calls] == list(range(1, 22))


def test_a_fork_leaves_its_origin_as_it_was():
    decoder = StepwiseDecoder(Recorder(), EOS, window=6)
    twin = decoder.fork()
    twin.step(10)
    assert decoder.tokens == [EOS] and decoder.state == {"steps": 1} and twin.state == {"steps": 2}


def test_a_window_that_cannot_slide_is_refused():
    with pytest.raises(ValueError, match="a window of 3 positions cannot slide"):
        StepwiseDecoder(Recorder(), EOS, window=3)


@pytest.mark.parametrize("window, following, kept", [(64, 1, 32), (64, 33, 32), (64, 40, 25), (64, 64, 1), (64, 99, 1)])
def test_half_a_window_is_kept_or_what_leaves_room(window, following, kept):
    assert tokens_kept(window, following) == kept
