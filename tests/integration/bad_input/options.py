"""Values of options that do not work, one at a time or together."""

from tests.conftest import USER_DIR
from tests.integration.bad_input.common import Case, evaluates, evaluates_without, trains, trains_bare
from tests.integration.forked import run_forked


def generates(tool):
    """fairseq-generate or fairseq-interactive, which translate."""
    options = ("--user-dir", USER_DIR, "--task", "byte_level_lm", "--cpu")
    return lambda world: run_forked(tool, world.data, *options, "--path", world.checkpoint)


CASES = [
    Case(
        "fairseq-generate", generates("generate"), "fairseq-generate translates sentences, .* python -m fairseq_sharnn"
    ),
    Case("fairseq-interactive", generates("interactive"), "fairseq-interactive translates sentences"),
    Case(
        "heads do not divide the width",
        trains("--attention-heads", 3),
        "--attention-heads 3 does not divide --decoder-embed-dim 32",
    ),
    Case("no heads", trains("--attention-heads", 0), "--attention-heads must be at least 1"),
    Case("Boom narrower than the width", trains("--boom-dim", 31), "--boom-dim 31 is below --decoder-embed-dim 32"),
    Case("no such attention layer", trains("--attention-layers", "0,2"), "--attention-layers: layer 2 does not exist"),
    Case(
        "unknown choice of attention layers",
        trains("--attention-layers", "last"),
        "--attention-layers: 'last' is not a choice",
    ),
    Case("no layers", trains("--decoder-layers", 0), "--decoder-layers must be at least 1"),
    Case(
        "context not above the chunk",
        trains("--context-length", 32),
        "--context-length 32 is not above --tokens-per-sample 32",
    ),
    Case(
        "context not above the chunk (evaluation)",
        evaluates("--tokens-per-sample", 200),
        "--context-length 96 is not above --tokens-per-sample 200",
    ),
    Case("context window negative", evaluates("--context-window", -5), "--context-window must not be negative"),
    Case("chunk length zero", trains("--tokens-per-sample", 0), "--tokens-per-sample must be at least 1"),
    Case(
        "chunk length zero (evaluation)", evaluates("--tokens-per-sample", 0), "--tokens-per-sample must be at least 1"
    ),
    Case("batch size zero", trains("--batch-size", 0), "--batch-size must be at least 1"),
    Case("batch size negative (evaluation)", evaluates("--batch-size", -1), "--batch-size must be at least 1"),
    Case("min-trust of 1", trains("--min-trust", 1), r"--min-trust must be in \[0, 1\)"),
    Case("min-trust negative", trains("--min-trust", -0.25), r"--min-trust must be in \[0, 1\)"),
    Case("one beta", trains("--lamb-betas", "0.9"), "--lamb-betas takes two numbers"),
    Case("beta out of range", trains("--lamb-betas", "(0.9, 1.5)"), "--lamb-betas must be two numbers in"),
    Case("epsilon negative", trains("--lamb-eps", -1), "--lamb-eps must not be negative"),
    Case("weight decay negative", trains("--weight-decay", -1), "--weight-decay must not be negative"),
    Case(
        "trust log every 0 updates",
        trains("--trust-log", "x", "--trust-log-interval", 0),
        "--trust-log-interval must be at least 1",
    ),
    Case(
        "trust log in no folder",
        trains("--trust-log", "gone/trust", "--trust-log-interval", 1),
        "cannot write --trust-log gone/trust: No such file",
    ),
    Case("dropout of 1", trains("--dropout", 1), r"--dropout must be in \[0, 1\)"),
    Case("DropConnect negative", trains("--dropconnect", -0.1), "--dropconnect must be in"),
    Case(
        "no batch size",
        trains_bare("--task", "byte_level_lm"),
        "give the number of lanes on each worker with --batch-size",
    ),
    Case(
        "no --task", trains_bare("--batch-size", 4), r"--arch sha_rnn_tiny models one text: give --task byte_level_lm"
    ),
    Case("no --task (evaluation)", evaluates_without("--task"), r"\S+ holds raw bytes: give --task byte_level_lm"),
    Case("no --path", evaluates_without("--path"), "name the checkpoint to evaluate with --path"),
    Case(
        "--model-overrides is no dictionary", evaluates("--model-overrides", "{x:1}"), "--model-overrides takes a dict"
    ),
    Case(
        "shard that does not exist", evaluates("--num-shards", 3, "--shard-id", 3), "--shard-id 3 is not one of the 3"
    ),
    Case(
        "manual rates that are no dictionary",
        trains("--lr-scheduler", "manual", "--epoch2lr", "0.1"),
        r"--epoch2lr takes a dictionary of learning rates such as \S+ .*, not 0\.1",
    ),
    Case(
        "manual rates of updates that are no numbers",
        trains("--lr-scheduler", "manual", "--update2lr", "{1: 'fast'}"),
        "--update2lr takes a dictionary of learning rates",
    ),
    Case(
        "a schedule without its length",
        trains("--lr-scheduler", "polynomial_decay"),
        "--lr-scheduler polynomial_decay needs the number of its updates: --total-num-update",
    ),
    Case(
        "a schedule without its phases",
        trains("--lr-scheduler", "tri_stage"),
        "--lr-scheduler tri_stage does not fit its options",
    ),
    Case("update-freq zero", trains("--update-freq", 0), "--update-freq must be at least 1"),
    Case(
        "unknown metric", trains("--best-checkpoint-metric", "bbp"), "--best-checkpoint-metric bbp is not one of .*bpb"
    ),
    Case(
        "more workers than GPUs",
        trains("--distributed-world-size", 2),
        "--distributed-world-size 2 needs 2 GPUs, and fairseq finds 0",
    ),
    Case(
        "workers of GPUs that are not there",
        trains("--distributed-init-method", "tcp://localhost:12345"),
        "--distributed-init-method tcp://localhost:12345 starts a worker on each GPU, and fairseq finds none",
    ),
    Case(
        "flat parameters", trains("--ddp-backend", "fully_sharded"), "--ddp-backend fully_sharded flattens parameters"
    ),
    Case(
        "adaptive_loss without cutoffs",
        trains("--criterion", "adaptive_loss", "--ddp-backend", "legacy_ddp"),
        "--criterion adaptive_loss needs a model with --adaptive-softmax-cutoff",
    ),
    Case(
        "adaptive_loss with the default DDP backend",
        trains("--criterion", "adaptive_loss", "--adaptive-softmax-cutoff", 100),
        "--criterion adaptive_loss does not work with --ddp-backend pytorch_ddp",
    ),
    Case(
        "cross_entropy with cutoffs",
        trains("--adaptive-softmax-cutoff", 100),
        "--criterion cross_entropy does not work on a model with --adaptive-softmax-cutoff",
    ),
    Case(
        "no ordinary symbol in the first band",
        trains("--adaptive-softmax-cutoff", 4),
        "--adaptive-softmax-cutoff 4 leaves the first band no more than fairseq's 4 special symbols",
    ),
    Case(
        "a band of one symbol",
        trains("--adaptive-softmax-cutoff", 259),
        "--adaptive-softmax-cutoff 259 leaves a band of the 260 symbols with a single one",
    ),
    Case(
        "cutoff past the vocabulary",
        trains("--adaptive-softmax-cutoff", 9999),
        "--adaptive-softmax-cutoff 9999 goes past the vocabulary of 260 symbols",
    ),
]
