"""Train one model through fairseq-train, one core, and measure what it takes."""

import os
import shutil
from pathlib import Path
from typing import Dict, List

import torch

from experiments.harness.processes import USER_DIR, Processes, fairseq, reason_of_failure
from experiments.tokenization.plan import Folder, Plan, Run, write_json
from experiments.tokenization.texts import updates_of, window_of
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.registration import register

processes = Processes()
CHECKPOINT = os.path.join("checkpoints", "checkpoint_last.pt")


def model_options(plan: Plan, run: Run, window: int) -> List[str]:
    """Both models of the same width and depth, attention over four windows (SHA-RNN) or one (Transformer)."""
    width, wide = str(plan.width), str(4 * plan.width)
    common = ["--decoder-embed-dim", width, "--decoder-layers", str(plan.layers), "--dropout", "0"]
    if run.model == "sha_rnn":
        model = ["--arch", "sha_rnn", *common, "--boom-dim", wide, "--context-length", str(4 * window)]
        # without the jitter, which makes chunks shorter on average: an update reads as much as the Transformer's
        return [*model, "--no-bptt-jitter", "--optimizer", "lamb_min_trust", "--lr", "4e-3"]
    heads = max(1, plan.width // 32)
    model = [
        "--arch",
        "transformer_lm",
        *common,
        "--decoder-ffn-embed-dim",
        wide,
        "--decoder-attention-heads",
        str(heads),
    ]
    model += ["--decoder-input-dim", width, "--decoder-output-dim", width, "--share-decoder-input-output-embed"]
    return [*model, "--attention-dropout", "0", "--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--lr", "2e-3"]


def command(plan: Plan, folder: Folder, run: Run, about: Dict) -> List[str]:
    """The fairseq-train command of a run, without its program."""
    window, updates = window_of(plan, about), updates_of(plan, about)
    task = "byte_level_lm" if run.tokenization == "bytes" else "streaming_lm"
    return [
        *(os.path.abspath(folder.data(run.tokenization)), "--user-dir", str(USER_DIR), "--task", task, "--cpu"),
        *model_options(plan, run, window),
        *("--lr-scheduler", "fixed", "--warmup-updates", str(max(1, updates // 20)), "--clip-norm", "0.25"),
        *("--tokens-per-sample", str(window), "--batch-size", str(plan.lanes), "--max-update", str(updates)),
        *("--seed", str(plan.seed), "--disable-validation", "--no-epoch-checkpoints", "--no-save-optimizer-state"),
        *("--save-dir", os.path.abspath(os.path.join(folder.run(run), "checkpoints"))),
        *("--log-format", "simple", "--log-interval", "20"),
    ]


def train(plan: Plan, folder: Folder, run: Run, about: Dict) -> None:
    """Train a run that is not trained yet; writes training.json. Raises RuntimeError with what it said last."""
    result = folder.result(run, "training")
    if os.path.exists(result):
        return
    # what an interrupted run has saved is without its optimizer and its counts: going on from it is another budget
    shutil.rmtree(os.path.join(folder.run(run), "checkpoints"), ignore_errors=True)
    os.makedirs(folder.run(run), exist_ok=True)
    arguments, log = command(plan, folder, run, about), Path(folder.run(run)) / "train.log"
    try:
        ended = processes.run([fairseq("train"), *arguments], log, processes.environment)
    except UsageError as error:  # stopped from outside, or a full disk
        raise RuntimeError(str(error)) from None
    if ended.code != 0:
        reason = reason_of_failure(log, ended.code)
        raise RuntimeError(f"{run.name}: fairseq-train failed ({reason}); all it printed is in {log}")
    embedding, others = parameters(os.path.join(folder.run(run), CHECKPOINT))
    write_json(
        result,
        {
            "command": ["fairseq-train", *arguments],
            "window": window_of(plan, about),
            "updates": updates_of(plan, about),
            "embedding_parameters": embedding,
            "other_parameters": others,
            "seconds": ended.wall_seconds,
            "cpu_seconds": ended.cpu_seconds,
            "peak_memory_bytes": ended.peak_memory,
        },
    )


def parameters(checkpoint: str) -> List[int]:
    """Numbers of parameters in the embedding (tied to the output, with its bias) and elsewhere."""
    register()  # checkpoints of fairseq's LSTM hold an argparse.Namespace, which torch refuses otherwise
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]
    embedding = others = 0
    for name, tensor in state.items():
        if "output_projection" in name or "version" in name or "_float_tensor" in name:
            continue
        if "embed.weight" in name or "embed_tokens" in name or "output_bias" in name:
            embedding += tensor.numel()
        else:
            others += tensor.numel()
    return [embedding, others]


def updates_done(folder: Folder, run: Run) -> int:
    """How far a run's log has come."""
    try:
        with open(os.path.join(folder.run(run), "train.log"), "rb") as log:
            log.seek(max(0, os.path.getsize(log.name) - 4000))
            found = log.read().rpartition(b"num_updates=")[2]
        return int(found.split(b",")[0]) if found[:1].isdigit() else 0
    except (OSError, ValueError):
        return 0
