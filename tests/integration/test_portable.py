"""A checkpoint leaves fairseq: exported, sampled and scored where `import fairseq` fails; the numbers stay."""

import json
import re
import sys

import pytest
import torch

from fairseq_sharnn import load
from fairseq_sharnn.models.sha_rnn import SHARNNLanguageModel
from fairseq_sharnn.portable.command_line import main, make_parser
from tests.conftest import ROOT, run_command
from tests.integration import documents
from tests.integration.forked import eval_forked

HIDDEN = "fairseq,omegaconf,hydra,fairseq_cli"
PROMPTS = ["The statement", "x", "", "An assignment statement evaluates the expression list. " * 3, "b \xff", "The "]


def without_fairseq(*arguments, **options):
    return run_command(
        sys.executable, ROOT / "tests" / "without.py", HIDDEN, "-m", "fairseq_sharnn", *arguments, **options
    )


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "model"
    finished = run_command(
        sys.executable, "-m", "fairseq_sharnn", "export", trained[0] / "checkpoint_best.pt", out, "--trainable"
    )
    assert finished.code == 0, finished.output
    return out


@pytest.fixture(scope="module")
def collapsed(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("collapsed") / "model"
    finished = without_fairseq("export", trained[0] / "checkpoint_best.pt", out)
    assert finished.code == 0, finished.output
    return out


def test_what_an_export_holds(collapsed, exported, trained):
    assert sorted(path.name for path in collapsed.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((collapsed / "config.json").read_text())
    assert config["format_version"] == 1 and config["sizes"]["static_vectors"] == "plain"
    assert json.loads((exported / "config.json").read_text())["sizes"]["static_vectors"] == "overparameterized"
    card = (collapsed / "README.md").read_text()
    best = re.findall(r"valid on 'valid' subset \| bpb [\d.]+ \| loss ([\d.]+)", trained[1].output)[-1]
    assert "| updates | 30 |" in card and f"| bits per byte on the validation split | {best}" in card
    assert "| bytes read, at most (updates x lanes x chunk) | 3,840 |" in card
    trainable, plain = load(exported), load(collapsed)
    assert sum(p.numel() for p in trainable.module.parameters()) > sum(p.numel() for p in plain.module.parameters())
    assert trainable.network.blocks[0].attention.value.expand.weight.requires_grad


@pytest.mark.parametrize("options", [("--batch-size", 3, "--context-window", 100), ("--batch-size", 16)])
def test_score_is_the_number_of_eval_lm(collapsed, trained, corpus, options):
    theirs = eval_forked(corpus, trained[0] / "checkpoint_best.pt", "--tokens-per-sample", 64, *options)
    loss = re.search(r"Loss \(base 2\): ([\d.]+)", theirs.output)[1]
    ours = without_fairseq(
        *("score", corpus / "test", "--model", collapsed, "--chunk", 64),
        *(("--lanes" if option == "--batch-size" else option) for option in options),
    )
    assert ours.code == 0, ours.output
    assert f"{loss} bits per byte (2,001 bytes)" in ours.output and "100%" in ours.output


def test_score_of_several_files_as_json(collapsed, corpus):
    finished = without_fairseq("score", corpus / "test", corpus / "valid", "--model", collapsed, "--json")
    found = json.loads(finished.output[finished.output.index("{") :])
    one, two = (found["files"][str(corpus / split)] for split in ("test", "valid"))
    assert (one["bytes"], two["bytes"], found["all"]["bytes"]) == (2001, 1500, 3501)
    mean = (one["bits_per_byte"] * 2001 + two["bits_per_byte"] * 1500) / 3501
    assert found["all"]["bits_per_byte"] == pytest.approx(mean)
    text = (corpus / "test").read_bytes()
    assert load(collapsed).score(text).bits_per_byte == pytest.approx(one["bits_per_byte"])


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_score_prints_what_narrow_weights_cost(collapsed, corpus, weights, capsys):
    text = (corpus / "test").read_bytes()
    exact, narrow = (load(collapsed, weights=kind).score(text).bits_per_byte for kind in ("float32", weights))
    arguments = ["score", str(corpus / "test"), "--model", str(collapsed), "--weights", weights]
    assert main(arguments) == 0
    assert (
        f"  {weights} weights cost {narrow - exact:+.5f} bits per byte: {exact:.4f} in float32"
        in capsys.readouterr().out
    )
    assert narrow != exact and abs(narrow - exact) < 0.02
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["weights"] == weights
    assert found["all"]["bits_per_byte"] == pytest.approx(narrow)
    assert found["float32"]["all"]["bits_per_byte"] == pytest.approx(exact)


def test_samples_are_those_of_from_pretrained(trained, exported):
    hub = SHARNNLanguageModel.from_pretrained(str(trained[0]), "checkpoint_best.pt", str(trained[0]))
    for settings in (
        {"temperature": 0},
        {"seed": 1},
        {"seed": 2, "top_k": 5, "temperature": 0.7},
        {"seed": 3, "top_p": 0.8},
    ):
        text = hub.sample("The value", length=40, **settings)
        assert load(exported).sample("The value", length=40, **settings) == text
        assert load(trained[0] / "checkpoint_best.pt").sample("The value", length=40, **settings) == text


def test_sample_command(collapsed, tmp_path):
    (tmp_path / "prompts").write_bytes("\n".join(PROMPTS[:3]).encode() + b"\n")
    finished = without_fairseq(
        *("sample", "--model", collapsed, "--prompts", tmp_path / "prompts", "--count", 2, "--length", 50, "--seed", 7),
    )
    assert finished.code == 0, finished.output
    model = load(collapsed)
    expected = "".join(
        f"--- {number}\n{model.sample(prompt, length=50, seed=7 + draw)}\n"
        for number, (prompt, draw) in enumerate(((prompt, draw) for prompt in PROMPTS[:3] for draw in (0, 1)), start=1)
    )
    assert finished.output == expected


@pytest.mark.parametrize("kernels", ["1", "0"])
def test_prompts_in_one_batch_have_the_text_that_each_has_alone(exported, kernels):
    """To the last bit: log probabilities are compared too. Longer than the context, so that memory wraps."""
    code = f"""
import torch
from fairseq_sharnn import load
from fairseq_sharnn.portable.sampling import Lanes
for dtype in ("float32", "bfloat16"):
    model = load({str(exported)!r}, dtype=dtype)
    prompts = {PROMPTS!r}
    assert model.sample(prompts, length=130, seed=5) == [model.sample(p, length=130, seed=5) for p in prompts], dtype
    read = [torch.tensor([2, *model.codec.encode(p.encode())]) for p in prompts[:4]]
    with torch.no_grad():
        together = Lanes(model.predictor, read)
        apart = [Lanes(model.predictor, [tokens]) for tokens in read]
        for step in range(100):
            rows = together.logits()
            assert torch.equal(rows, torch.cat([lanes.logits() for lanes in apart])), (dtype, step)
            tokens = rows.argmax(1)
            together.read(tokens)
            for lanes, token in zip(apart, tokens):
                lanes.read(token.view(1))
"""
    finished = run_command(sys.executable, "-c", code, env={"FAIRSEQ_SHARNN_KERNELS": kernels})
    assert finished.code == 0, finished.output[-2000:]


def nats_of(text, log_probs):
    """Of each byte by the log probabilities before it."""
    return -sum(float(following[byte]) for byte, following in zip(text, log_probs))


def test_a_stream_is_the_model_on_the_whole_text(exported, corpus, tmp_path):
    model, text = load(exported), (corpus / "test").read_bytes()[:300]
    stream = model.stream()
    assert torch.isclose(stream.next.logsumexp(0).exp(), torch.tensor(1.0), atol=0.05)  # the rest is of special symbols
    before = stream.next
    first = stream.feed(text[:200])
    other = stream.copy()
    rest = stream.feed(text[200:])
    assert torch.equal(stream.next, rest[-1]) and stream.count == 300 and other.count == 200
    other.save(str(tmp_path / "stream"))
    again = model.stream(str(tmp_path / "stream"))
    assert again.count == 200 and torch.equal(again.next, first[-1])
    assert torch.equal(again.feed(text[200:]), rest)
    # a copy continues in a new block of memory, which changes the order of sums
    torch.testing.assert_close(other.feed(text[200:]), rest, rtol=0, atol=1e-5)
    assert stream.feed(b"").shape == (0, 256)
    start = text[: model.block]  # one chunk: a later one sees fewer rows than single steps do
    assert nats_of(start, [before, *first]) == pytest.approx(model.score(start, lanes=1).nats, rel=1e-5)
    steps = model.stream()
    following = [steps.next, *(steps.feed(text[place : place + 1])[0] for place in range(len(text)))]
    assert nats_of(text, following) == pytest.approx(model.score(text, lanes=1, chunk=1).nats, rel=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(collapsed, trained, corpus, tmp_path, dtype):
    out = tmp_path / "half"
    finished = without_fairseq("export", trained[0] / "checkpoint_best.pt", out, "--dtype", dtype)
    assert finished.code == 0, finished.output
    assert (out / "model.safetensors").stat().st_size < 0.6 * (collapsed / "model.safetensors").stat().st_size
    text = (corpus / "test").read_bytes()
    exact, half = load(collapsed).score(text), load(out, dtype=dtype)
    assert half.dtype == getattr(torch, dtype) and load(out).dtype == torch.float32
    assert half.score(text).bits_per_byte == pytest.approx(exact.bits_per_byte, abs=0.02)
    assert len(half.sample("The ", length=20, seed=1)) >= 20


def test_what_the_page_shows_works(exported, corpus, tmp_path, capsys):
    page = ROOT / "docs" / "portable.md"
    parsed = [words[3:] for words in documents.commands(page) if words[:3] == ["python", "-m", "fairseq_sharnn"]]
    assert {make_parser().parse_args(words).command for words in parsed} == {
        *("info", "user-dir", "export", "sample", "score")
    }
    (code,) = documents.blocks(page, "python")
    code = code.replace("work/mine", str(exported)).replace("README.md", str(corpus / "test"))
    exec(code.replace("work/stream", str(tmp_path / "stream")), {})
    assert capsys.readouterr().out.startswith("The ")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_on_cuda(exported, corpus, dtype):
    text = (corpus / "test").read_bytes()
    model = load(exported, device="cuda", dtype=dtype)
    assert model.score(text).bits_per_byte == pytest.approx(load(exported).score(text).bits_per_byte, abs=0.02)
    alone = [model.sample(prompt, length=130, seed=5) for prompt in PROMPTS]
    assert model.sample(PROMPTS, length=130, seed=5) == alone
