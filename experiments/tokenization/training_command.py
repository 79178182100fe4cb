"""Train one model through fairseq-train, on one core, and measure what it takes."""

import shutil
from pathlib import Path
from typing import List

from experiments.harness.processes import USER_DIR, Processes, fairseq, reason_of_failure
from experiments.harness.records import write_record
from experiments.tokenization.budget import chunk_tokens, update_count
from experiments.tokenization.folder import StudyFolder
from experiments.tokenization.plan import Plan, StudyRun
from experiments.tokenization.records import Manifest, Training
from fairseq_sharnn.errors import UsageError


def model_options(plan: Plan, run: StudyRun, window: int) -> List[str]:
    """Both models have the same width and depth. Attention reaches over four windows (SHA-RNN) or one (Transformer)."""
    width, wide = str(plan.width), str(4 * plan.width)
    common = ["--decoder-embed-dim", width, "--decoder-layers", str(plan.layers), "--dropout", "0"]
    if run.model == "sha_rnn":
        model = ["--arch", "sha_rnn", *common, "--boom-dim", wide, "--context-length", str(4 * window)]
        # without the jitter, which makes chunks shorter on average: an update reads as much as the Transformer's
        return [*model, "--no-bptt-jitter", "--optimizer", "lamb_min_trust", "--lr", "4e-3"]
    heads = str(max(1, plan.width // 32))
    model = ["--arch", "transformer_lm", *common, "--decoder-ffn-embed-dim", wide, "--decoder-attention-heads", heads]
    model += ["--decoder-input-dim", width, "--decoder-output-dim", width, "--share-decoder-input-output-embed"]
    return [*model, "--attention-dropout", "0", "--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--lr", "2e-3"]


def training_command(plan: Plan, folder: StudyFolder, run: StudyRun, manifest: Manifest) -> List[str]:
    """The options of fairseq-train for a run."""
    window, updates = chunk_tokens(plan, manifest), update_count(plan, manifest)
    task = "byte_level_lm" if run.tokenization == "bytes" else "streaming_lm"
    data, save_dir = folder.data(run.tokenization).resolve(), folder.checkpoint(run).resolve().parent
    return [
        *[str(data), "--user-dir", str(USER_DIR), "--task", task, "--cpu"],
        *model_options(plan, run, window),
        *["--lr-scheduler", "fixed", "--warmup-updates", str(max(1, updates // 20)), "--clip-norm", "0.25"],
        *["--tokens-per-sample", str(window), "--batch-size", str(plan.lanes), "--max-update", str(updates)],
        *["--seed", str(plan.seed), "--disable-validation", "--no-epoch-checkpoints", "--no-save-optimizer-state"],
        *["--save-dir", str(save_dir)],
        *["--log-format", "simple", "--log-interval", "20"],
    ]


def train(plan: Plan, folder: StudyFolder, run: StudyRun, manifest: Manifest, processes: Processes) -> bool:
    """Train a run and write training.json; False if an earlier call did. Raises UsageError when fairseq-train fails."""
    record = folder.record(run, "training")
    if record.exists():
        return False
    # The checkpoint of an interrupted run lacks optimizer and counts, so that resuming it would be another budget.
    shutil.rmtree(folder.checkpoint(run).parent, ignore_errors=True)
    options = training_command(plan, folder, run, manifest)
    log = folder.run(run) / "train.log"
    ended = processes.run([fairseq("train"), *options], log, processes.environment)
    check_success(run, "fairseq-train", ended.code, log)
    training = Training(
        command=["fairseq-train", *options],
        window=chunk_tokens(plan, manifest),
        updates=update_count(plan, manifest),
        seconds=ended.wall_seconds,
        cpu_seconds=ended.cpu_seconds,
        peak_memory_bytes=ended.peak_memory,
    )
    write_record(record, training)
    return True


def check_success(run: StudyRun, command: str, code: int, log: Path) -> None:
    """Raises UsageError with the reason if a command of a run failed."""
    if code != 0:
        reason = reason_of_failure(log, code)
        raise UsageError(f"{run.name}: {command} failed ({reason}); all its output is in {log}")
