"""What is measured: this package, plain.py, and fairseq's Transformer of equal parameters, behind one interface."""

from dataclasses import dataclass, replace
from typing import Any, Callable, Dict

import torch
from torch import Tensor
from torch.nn import functional as F

from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary
from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNDropout, SHARNNSizes
from fairseq_sharnn.optim.lamb import LambMinTrust
from fairseq_sharnn.reference import PlainSHARNN

NAMES = ("fairseq_sharnn", "plain", "transformer_lm")
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# fp16 gradients of a mean loss underflow without it; what it is does not matter for speed.
_FP16_LOSS_SCALE = 1024.0


@dataclass(frozen=True)
class Case:
    """A size and a place to run it: model width D, Boom width H, layers, lanes B, chunk T, context C."""

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


class Contestant:
    """A model with its optimizer: `train`, `evaluate` and `generate` do one unit of work and return bytes done."""

    def __init__(self, case: Case, model: torch.nn.Module, optimizer: Callable[[Any], torch.optim.Optimizer]):
        self.case = case
        self.model = model.to(device=case.device, dtype=PRECISIONS[case.precision])
        self.optimizer = optimizer(self.model.parameters())
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.scale = _FP16_LOSS_SCALE if case.precision == "fp16" else 1.0

    def logits(self, tokens: Tensor) -> Tensor:
        """tokens [T, B] -> logits [T, B, V], carrying the state that the model has."""
        raise NotImplementedError

    def reset(self, lanes: int) -> None:
        """Forget the streams and begin `lanes` new ones with a full memory."""

    def random_tokens(self, length: int, lanes: int) -> Tensor:
        return torch.randint(4, 260, (length, lanes), device=self.case.device)

    def prepare(self, workload: str) -> None:
        """Set the model's mode and fill its memory for `training`, `evaluation` or `generation`."""
        self.model.eval()
        with torch.no_grad():
            self.reset(1 if workload == "generation" else self.case.lanes)
        self.model.train(workload == "training")

    def training(self) -> int:
        """One update: forward, backward, clipping at the paper's norm, optimizer."""
        case = self.case
        tokens = self.random_tokens(case.length + 1, case.lanes)
        self.optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self.logits(tokens[:-1]).float().flatten(0, 1), tokens[1:].flatten())
        (loss * self.scale).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.25 * self.scale)
        self.optimizer.step()
        return case.tokens

    @torch.no_grad()
    def evaluation(self) -> int:
        """One chunk scored."""
        case = self.case
        tokens = self.random_tokens(case.length + 1, case.lanes)
        F.cross_entropy(self.logits(tokens[:-1]).float().flatten(0, 1), tokens[1:].flatten())
        return case.tokens

    @torch.no_grad()
    def generation(self, count: int = 32) -> int:
        """`count` bytes drawn one after the other, one stream."""
        byte = self.random_tokens(1, 1)
        for _ in range(count):
            byte = torch.multinomial(self.logits(byte)[0].float().softmax(-1), 1)
        return count


class Ours(Contestant):
    def __init__(self, case: Case):
        super().__init__(case, SHARNN(case.sizes(), case.rates()), lambda parameters: LambMinTrust(parameters))
        self.state = None

    def prepare(self, workload: str) -> None:
        super().prepare(workload)
        if workload != "training":
            self.model.collapse()

    def reset(self, lanes: int) -> None:
        self.state = None
        for _ in range(-(-self.case.context // self.case.length)):
            self.logits(self.random_tokens(self.case.length, lanes))

    def logits(self, tokens: Tensor) -> Tensor:
        features, self.state = self.model(tokens, self.state)
        return self.model.logits(features)


class Plain(Ours):
    def __init__(self, case: Case):
        Contestant.__init__(
            self, case, PlainSHARNN(case.sizes(), case.rates()), lambda parameters: LambMinTrust(parameters)
        )
        self.state = None

    def prepare(self, workload: str) -> None:
        Contestant.prepare(self, workload)


class Transformer(Contestant):
    """fairseq's transformer_lm (pre-norm, shared embeddings); it sees its chunk of T bytes and nothing before."""

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
        if self.window is None or self.window.size(1) >= self.case.length:  # its positions end: begin again
            self.window, self.incremental = tokens.t()[:, :0], {}
        self.window = torch.cat([self.window, tokens.t()], dim=1)
        return decoder(self.window, incremental_state=self.incremental)[0].transpose(0, 1)[-1:]


class _DictionaryOnly:
    """As much of a fairseq task as building a language model takes."""

    source_dictionary = target_dictionary = ByteDictionary()


def equal_transformer(case: Case) -> torch.nn.Module:
    """A transformer_lm of as many layers, its width such that the parameters come nearest to SHA-RNN's at this size."""
    from fairseq.models.transformer_lm import TransformerLanguageModel, TransformerLanguageModelConfig

    wanted = sum(p.numel() for p in SHARNN(replace(case, device="cpu").sizes()).parameters())
    vocab, width = len(ByteDictionary()), case.width
    others = vocab * width + 2 * width + case.layers * (4 * width * width + 9 * width)
    inner = max(8, round((wanted - others) / case.layers / (2 * width + 1) / 8) * 8)
    config = TransformerLanguageModelConfig(
        dropout=case.dropout,
        attention_dropout=case.dropout,
        decoder_embed_dim=width,
        decoder_input_dim=width,
        decoder_output_dim=width,
        decoder_ffn_embed_dim=inner,
        decoder_layers=case.layers,
        decoder_attention_heads=max(1, width // 64),
        decoder_normalize_before=True,
        share_decoder_input_output_embed=True,
        tokens_per_sample=case.length + 2,
        max_target_positions=case.length + 2,
    )
    return TransformerLanguageModel.build_model(config, _DictionaryOnly())


def build(name: str, case: Case) -> Contestant:
    """The contestant of a name in `NAMES`."""
    torch.manual_seed(1)
    return {"fairseq_sharnn": Ours, "plain": Plain, "transformer_lm": Transformer}[name](case)
