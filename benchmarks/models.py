"""The measured models behind one interface: this package, reference.py, and fairseq's Transformer of equal parameters."""

import time
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Callable, Dict, List

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.harness.sizes import nearest_inner_width
from fairseq_sharnn.compat.gpu import prepare_lstms
from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary
from fairseq_sharnn.data.streams.lanes import chunk_ends
from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNDropout, SHARNNSizes
from fairseq_sharnn.optim.lamb import LambMinTrust
from fairseq_sharnn.reference import PlainSHARNN

NAMES = ("fairseq_sharnn", "plain", "transformer_lm")
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# fairseq's special symbols come first, and are not drawn: a Transformer that reads only padding attends to nothing.
SPECIAL = 4
# Without it, fp16 gradients of a mean loss underflow. Its value does not matter for speed.
_FP16_LOSS_SCALE = 1024.0


@dataclass(frozen=True)
class Case:
    """A size and a place to run it: model width D, Boom width H, layers, lanes B, chunk T, context C.

    jittered: train on chunks of varied length, as the published recipe does, the same for every model. streams: drawn at
    once in generation. weights: of this package in generation, as `load(weights=...)` takes them.
    """

    width: int
    boom_width: int
    lanes: int
    length: int
    context: int = 5000
    layers: int = 4
    attention: str = "one"
    dropout: float = 0.1
    device: str = "cpu"
    precision: str = "fp32"
    jittered: bool = False
    streams: int = 1
    weights: str = "float32"

    @property
    def attention_layers(self):
        return {"none": (), "one": (self.layers - 2,), "all": tuple(range(self.layers))}[self.attention]

    @property
    def tokens(self) -> int:
        return self.lanes * self.length

    def sizes(self) -> SHARNNSizes:
        vocab = len(ByteDictionary())
        return SHARNNSizes(vocab, self.width, self.boom_width, self.layers, self.attention_layers, context=self.context)

    def rates(self) -> SHARNNDropout:
        rate = self.dropout
        return SHARNNDropout(rate, rate, rate, rate, rate, 0.0)


# B 16 as in the paper; `small` is the size of the figures in README.md.
CASES: Dict[str, Case] = {
    "tiny": Case(width=128, boom_width=512, lanes=16, length=128),
    "small": Case(width=256, boom_width=1024, lanes=16, length=256),
    "paper": Case(width=1024, boom_width=4096, lanes=16, length=1024),
}

# A turn of generation draws this many bytes again and again, for so many seconds. A text takes seconds, too; in a turn of a
# few milliseconds the model would mostly fetch its weights, which the turn before has put out of the caches.
TURN_BYTES, TURN_SECONDS = 32, 0.5


def _lengths(case: Case) -> List[int]:
    """Lengths of the chunks of training, in turn."""
    if not case.jittered:
        return [case.length]
    return np.diff(chunk_ends(1000 * case.length, case.length, (1, 1)), prepend=0).tolist()[:-1]


class MeasuredModel:
    """A model with its optimizer: `training`, `evaluation` and `generation` do one unit of work and return its bytes."""

    def __init__(self, case: Case, model: torch.nn.Module, optimizer: Callable[[Any], torch.optim.Optimizer]):
        self.case = case
        self.model = model.to(device=case.device, dtype=PRECISIONS[case.precision])
        if case.device.startswith("cuda"):  # as training does
            prepare_lstms(self.model, torch.device(case.device), torch.backends.cudnn.version() or 0)
        self.optimizer = optimizer(self.model.parameters())
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.lengths = cycle(_lengths(case))
        self.scale = _FP16_LOSS_SCALE if case.precision == "fp16" else 1.0

    def logits(self, tokens: Tensor) -> Tensor:
        """tokens [T, B] -> logits [T, B, V]. The model's state is carried to the next call."""
        raise NotImplementedError

    def reset(self, lanes: int) -> None:
        """Forget the streams, and begin `lanes` new ones with a full memory."""

    def random_tokens(self, length: int, lanes: int) -> Tensor:
        return torch.randint(SPECIAL, 260, (length, lanes), device=self.case.device)

    def prepare(self, workload: str) -> None:
        """Set the model's mode and fill its memory for `training`, `evaluation` or `generation`."""
        self.model.eval()
        with torch.no_grad():
            self.reset(self.case.streams if workload == "generation" else self.case.lanes)
        self.model.train(workload == "training")

    def training(self) -> int:
        """Make one update: forward, backward, clipping at the norm of the paper, optimizer."""
        case, length = self.case, next(self.lengths)
        tokens = self.random_tokens(length + 1, case.lanes)
        self.optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self.logits(tokens[:-1]).float().flatten(0, 1), tokens[1:].flatten())
        (loss * self.scale).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.25 * self.scale)
        self.optimizer.step()
        return length * case.lanes

    @torch.no_grad()
    def evaluation(self) -> int:
        """Score one chunk."""
        case = self.case
        tokens = self.random_tokens(case.length + 1, case.lanes)
        F.cross_entropy(self.logits(tokens[:-1]).float().flatten(0, 1), tokens[1:].flatten())
        return case.tokens

    def generation(self) -> int:
        """Draw bytes one after the other, in each of the case's streams, for at least TURN_SECONDS."""
        end, drawn = time.perf_counter() + TURN_SECONDS, self.draw(TURN_BYTES)
        while time.perf_counter() < end:
            drawn += self.draw(TURN_BYTES)
        return drawn

    @torch.no_grad()
    def draw(self, count: int) -> int:
        """Draw `count` bytes one after the other, in each of the case's streams."""
        byte = self.random_tokens(1, self.case.streams)
        for _ in range(count):
            byte = torch.multinomial(self.logits(byte)[0, :, SPECIAL:].float().softmax(-1), 1).t() + SPECIAL
        return count * self.case.streams


class PackageModel(MeasuredModel):
    def __init__(self, case: Case):
        super().__init__(case, SHARNN(case.sizes(), case.rates()), lambda parameters: LambMinTrust(parameters))
        self.state = None

    def prepare(self, workload: str) -> None:
        super().prepare(workload)
        if workload != "training":
            self.model.collapse()
        if workload == "generation" and self.case.weights != "float32":
            self.model.narrow(self.case.weights)

    def reset(self, lanes: int) -> None:
        self.state = None
        for _ in range(-(-self.case.context // self.case.length)):
            self.logits(self.random_tokens(self.case.length, lanes))

    def logits(self, tokens: Tensor) -> Tensor:
        features, self.state = self.model(tokens, self.state)
        return self.model.logits(features)


class ReferenceModel(PackageModel):
    def __init__(self, case: Case):
        MeasuredModel.__init__(
            self, case, PlainSHARNN(case.sizes(), case.rates()), lambda parameters: LambMinTrust(parameters)
        )
        self.state = None

    def prepare(self, workload: str) -> None:
        MeasuredModel.prepare(self, workload)


class TransformerModel(MeasuredModel):
    """fairseq's transformer_lm (pre-norm, shared embeddings). It sees its chunk of T bytes and nothing before it."""

    def __init__(self, case: Case):
        super().__init__(case, equal_transformer(case), lambda parameters: torch.optim.Adam(parameters, lr=1e-3))
        self.window: Any = None
        self.incremental: Any = None

    def reset(self, lanes: int) -> None:
        self.window, self.incremental = None, {}

    def logits(self, tokens: Tensor) -> Tensor:
        decoder = self.model.decoder
        if len(tokens) > 1:
            return decoder(tokens.t())[0].transpose(0, 1)
        if self.window is None or self.window.size(1) >= self.case.length:  # no positions are left: begin again
            self.window, self.incremental = tokens.t()[:, :0], {}
        self.window = torch.cat([self.window, tokens.t()], dim=1)
        return decoder(self.window, incremental_state=self.incremental)[0].transpose(0, 1)[-1:]


class _DictionaryOnly:
    """As much of a fairseq task as building a language model takes."""

    source_dictionary = target_dictionary = ByteDictionary()


def equal_transformer(case: Case) -> torch.nn.Module:
    """A transformer_lm of as many layers, whose inner width brings its parameters nearest to those of SHA-RNN."""
    target = _count(SHARNN, case.sizes())
    inner = nearest_inner_width(lambda inner: _count(_transformer, case, inner), target)
    return _transformer(case, inner)


def _count(build: Callable[..., torch.nn.Module], *arguments) -> int:
    """Parameters of a model, which is built on a device without memory."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(*arguments).parameters())


def _transformer(case: Case, inner: int) -> torch.nn.Module:
    """transformer_lm with an inner width."""
    from fairseq.models.transformer_lm import TransformerLanguageModel, TransformerLanguageModelConfig

    config = TransformerLanguageModelConfig(
        dropout=case.dropout,
        attention_dropout=case.dropout,
        decoder_embed_dim=case.width,
        decoder_input_dim=case.width,
        decoder_output_dim=case.width,
        decoder_ffn_embed_dim=inner,
        decoder_layers=case.layers,
        decoder_attention_heads=max(1, case.width // 64),
        decoder_normalize_before=True,
        share_decoder_input_output_embed=True,
        tokens_per_sample=case.length + 2,
        max_target_positions=max(_lengths(case)) + 2,
    )
    return TransformerLanguageModel.build_model(config, _DictionaryOnly())


def build(name: str, case: Case) -> MeasuredModel:
    """The model of a name in `NAMES`."""
    torch.manual_seed(1)
    return {"fairseq_sharnn": PackageModel, "plain": ReferenceModel, "transformer_lm": TransformerModel}[name](case)
