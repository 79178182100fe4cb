"""What happens before a GPU starts: settings, checks, the line that training logs. No GPU is needed for these."""

import os
import re
import warnings
from types import SimpleNamespace

import pytest
import torch

from fairseq_sharnn import load
from fairseq_sharnn.compat import gpu
from fairseq_sharnn.data.blocks import BlockDataset, BlockIterator
from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary
from fairseq_sharnn.data.corpora.bytes import ByteCorpus
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNSizes
from fairseq_sharnn.portable import info
from fairseq_sharnn.portable.command_line import main
from fairseq_sharnn.portable.gpu import Card, Training, lstm_in_words, training_bytes
from fairseq_sharnn.registration import register
from tests.integration.forked import train_forked

register()
H100 = Card("NVIDIA H100", (9, 0), 132, 80 * 10**9)
RTX3090 = Card("RTX 3090", (8, 6), 82, 24 * 10**9)
PAPER = SHARNNSizes(260)


@pytest.mark.parametrize(
    "mine, expected",
    [
        ({}, {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}),
        ({"PYTORCH_ALLOC_CONF": "backend:native"}, {"PYTORCH_ALLOC_CONF": "backend:native"}),
    ],
)
def test_segments_expand_unless_the_user_has_set_something(monkeypatch, mine, expected):
    environment = {name: value for name, value in os.environ.items() if "ALLOC_CONF" not in name}
    monkeypatch.setattr(os, "environ", {**environment, **mine})
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    gpu.use_expandable_segments()
    assert {name: value for name, value in os.environ.items() if "ALLOC_CONF" in name} == expected


@pytest.mark.parametrize(
    "text, missing",
    [
        ("CUDA out of memory. Tried to allocate 3.00 GiB", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", False),
    ],
)
def test_memory_that_is_missing_is_known_by_any_name(text, missing):
    assert gpu.is_out_of_memory(RuntimeError(text)) is missing


CUDNN_REFUSES = "cuDNN version 91400 is not compatible with devices with SM < 7.5. Please install"
NO_KERNELS = "CUDA error: no kernel image is available for execution on the device"
empty, zeros = torch.empty, torch.zeros


def refuse(message):
    raise RuntimeError(f"{message}\nmore")


@pytest.fixture(params=[CUDNN_REFUSES, NO_KERNELS])
def refused(request, monkeypatch):
    """A card that torch sees and cannot use; the first line of the error."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", lambda *size, device=None, **options: empty(*size, **options))
    cudnn_refuses = request.param == CUDNN_REFUSES
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: refuse(request.param) if cudnn_refuses else 90100)
    monkeypatch.setattr(torch, "zeros", lambda *size, device=None: refuse(request.param) if device else zeros(*size))
    return request.param


def test_a_card_that_cannot_be_used_gets_one_line(refused):
    with pytest.raises(UsageError, match=r"hide the GPU with CUDA_VISIBLE_DEVICES, use --cpu, or install") as error:
        gpu.check_cards()
    assert f"({refused})" in str(error.value) and "\n" not in str(error.value)


def test_load_on_a_card_that_cannot_be_used(refused, trained):
    with pytest.raises(UsageError, match=r"this torch cannot use device cuda:0 .*: use cpu, or install") as error:
        load(trained[0] / "checkpoint_last.pt", device="cuda:0")
    assert f"({refused})" in str(error.value) and "\n" not in str(error.value)


def test_info_on_a_card_that_cannot_be_used(refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(Card, "of", lambda number: RTX3090)
    (line,) = (line for line in info.info_lines() if line.name == "device cuda:0")
    assert line.text == f"{RTX3090}: this torch cannot use it ({refused})" and line.mend.startswith(
        "install another torch"
    )


@pytest.mark.parametrize("command", [("sample",), ("score", "README.md")], ids=str)
def test_a_command_on_a_machine_without_a_gpu(trained, command):
    model = str(trained[0] / "checkpoint_last.pt")
    with pytest.raises(SystemExit) as ended:
        main([*command, "--model", model, "--device", "cuda"])
    assert ended.value.code == "error: device cuda is not available: torch finds no CUDA device here; use cpu"


def test_batches_are_pinned_for_gpus_only(hub, corpus, monkeypatch):
    """fairseq pins every batch, and torch 2.13 warns of that without a GPU. All that goes through fairseq's own iterator."""
    blocks = BlockDataset(ByteCorpus(str(corpus / "test")), ByteDictionary(), 500)
    asked, start = [], torch.utils.data.DataLoader.__init__

    def watched(loader, *arguments, **options):
        start(loader, *arguments, **options)
        asked.append(loader.pin_memory)

    monkeypatch.setattr(torch.utils.data.DataLoader, "__init__", watched)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(hub.score("The value")["positional_scores"]) == 9
        assert len(list(BlockIterator(blocks, 2, None).next_epoch_itr(shuffle=False))) == 3
    assert asked and not any(asked)
    monkeypatch.setattr(gpu, "feeds_gpu", lambda: True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        list(BlockIterator(blocks, 2, None).next_epoch_itr(shuffle=False))
    assert asked[-1] is True


@pytest.mark.parametrize(
    "card, kind, lanes, cudnn, expected",
    [
        (H100, "float16", 16, 91300, "cuDNN's persistent kernel"),
        (H100, "float16", 12, 91300, "standard kernel (it needs lanes in multiples of 8"),
        (RTX3090, "float16", 16, 91300, "standard kernel (it needs 98 multiprocessors, and the card has 82)"),
        (H100, "bfloat16", 16, 91300, "standard kernel (the persistent kernel needs float16)"),
        (H100, "bfloat16", 16, 91200, "torch's own LSTM"),
        (Card("T4", (7, 5), 40, 16 * 10**9), "bfloat16", 16, 91300, "torch's own LSTM"),
    ],
)
def test_what_runs_the_lstm_and_why(card, kind, lanes, cudnn, expected):
    assert expected in lstm_in_words(kind, 1024, lanes, card, cudnn)


def configuration(**common):
    types = ("fp16", "bf16", "amp", "memory_efficient_fp16", "memory_efficient_bf16")
    return SimpleNamespace(
        common=SimpleNamespace(**{**dict.fromkeys(types, False), **common}),
        dataset=SimpleNamespace(batch_size=16, max_tokens=None),
        task=SimpleNamespace(tokens_per_sample=1024),
    )


def test_the_line_at_the_start():
    with torch.device("meta"):
        network = SHARNN(PAPER)
    model = torch.nn.Module()
    model.decoder = torch.nn.Module()
    model.decoder.network = network
    line = gpu.start_line(configuration(fp16=True), model, H100, 91300)
    assert "\n" not in line and line.startswith("NVIDIA H100, compute capability 9.0, 132 multiprocessors")
    assert (
        "the LSTMs (float16, D 1024, 16 lanes) run on cuDNN's persistent kernel; estimated memory 4.7 GB of 80" in line
    )
    assert "bfloat16" in gpu.start_line(configuration(bf16=True), model, H100, 91300)
    amp, plain = (
        re.search(r"memory ([\d.]+)", gpu.start_line(c, model, H100, 0)).group(1)
        for c in (configuration(amp=True), configuration())
    )
    assert float(plain) > 1.5 * float(amp) > 1.5 * 4.7


def pretend_to_train_on_a_gpu() -> None:
    gpu.is_on_gpu = lambda trainer: True
    gpu.Card.of = lambda device=None: H100


@pytest.mark.parametrize("options", [(), ("--bf16", "--dropconnect", 0.1)], ids=str)
def test_training_logs_the_line_once(corpus, tmp_path, options):
    finished = train_forked(
        corpus, tmp_path, *options, "--max-update", 1, "--no-save", before=pretend_to_train_on_a_gpu
    )
    assert finished.code == 0, finished.output[-3000:]
    kind = "bfloat16" if "--bf16" in options else "float32"
    line = finished.line(f"the LSTMs ({kind}, D 32, 4 lanes) run on ")
    assert finished.output.count("the LSTMs (") == 1 and "estimated memory 0.0 GB of 80.0 GB" in line


def test_the_estimate_grows_with_lanes_and_shrinks_with_checkpointing():
    parameters = 53_800_000
    few, many = (training_bytes(PAPER, parameters, Training(lanes, 1024)) for lanes in (16, 32))
    assert many - 16 * parameters == 2 * (few - 16 * parameters)
    assert training_bytes(PAPER, parameters, Training(16, 1024, checkpoint_activations=True)) < 0.65 * few


@pytest.fixture
def cudnn_as_it_was(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "CUDNN_TENSOR_DTYPES", {torch.half, torch.float, torch.double})
    before = torch.backends.cudnn.enabled
    yield
    torch.backends.cudnn.enabled = before


@pytest.mark.parametrize("fails", [False, True])
def test_a_bfloat16_lstm_that_cudnn_cannot_run_falls_back(monkeypatch, caplog, cudnn_as_it_was, fails):
    """The trial itself runs here on CPU."""
    model = torch.nn.Sequential(torch.nn.LSTM(8, 8)).bfloat16()
    if fails:
        monkeypatch.setattr(gpu, "try_lstm", lambda width, device: torch.zeros(2) + torch.zeros(3))
    gpu.prepare_lstms(model, torch.device("cpu"), 91300)
    assert torch.backends.cudnn.enabled is not fails
    assert (torch.bfloat16 in torch.backends.cudnn.CUDNN_TENSOR_DTYPES) is not fails
    assert ("cuDNN does not run an LSTM in bfloat16 here" in caplog.text) is fails


def test_other_types_and_older_cudnn_are_left_alone(cudnn_as_it_was):
    gpu.prepare_lstms(torch.nn.LSTM(8, 8).half(), torch.device("cpu"), 91300)
    gpu.prepare_lstms(torch.nn.LSTM(8, 8).bfloat16(), torch.device("cpu"), 91000)
    assert torch.bfloat16 not in torch.backends.cudnn.CUDNN_TENSOR_DTYPES
