"""Options of dynamic evaluation, where they do not work."""

from tests.integration.bad_input.common import Case, World, evaluates, trains
from tests.integration.forked import eval_forked, run_script

LEARN = ("--dynamic-lr", 0.001)


def evaluates_two(world: World):
    pair = f"{world.checkpoint}:{world.saved / 'checkpoint_best.pt'}"
    return eval_forked(world.data, pair, "--tokens-per-sample", 32, *LEARN)


def evaluates_text(*options):
    return lambda world: run_script("evaluate_text", world.checkpoint, world.data, "--cpu", *options)


def tunes(*options):
    return lambda world: run_script("tune_dynamic", world.checkpoint, world.data, *options)


CASES = [
    Case("dynamic rate negative", evaluates("--dynamic-lr", -1), "--dynamic-lr must be a finite number from 0 up"),
    Case("dynamic rate is no number", evaluates("--dynamic-lr", "nan"), "--dynamic-lr must be a finite number"),
    Case(
        "unknown rule of dynamic evaluation",
        evaluates(*LEARN, "--dynamic-optimizer", "lamb"),
        "--dynamic-optimizer must be one of adam, rms, sgd, but it is lamb",
    ),
    Case(
        "dynamic decay above 1", evaluates_text(*LEARN, "--dynamic-decay", 1.5), "--dynamic-decay must be from 0 to 1"
    ),
    Case("dynamic clip negative", evaluates(*LEARN, "--dynamic-clip", -1), "--dynamic-clip must be a finite number"),
    Case(
        "lanes would learn what is not scored yet",
        evaluates(*LEARN, "--context-window", 16),
        r"--context-window 16 has each of 8 lanes .* \(--batch-size 1\)",
    ),
    Case(
        "a part of the file with dynamic evaluation",
        evaluates(*LEARN, "--num-shards", 2),
        "--dynamic-lr learns from the whole file in its order, but --num-shards 2",
    ),
    Case(
        "several models with dynamic evaluation", evaluates_two, "--dynamic-lr lets one model learn, but --path names 2"
    ),
    Case("dynamic evaluation in training", trains(*LEARN), "--dynamic-lr is for evaluation"),
    Case("tuning without a rate", tunes("--rates", "0,-1"), "--rates takes numbers above 0"),
    Case("tuning with a rate that is no number", tunes("--rates", "fast"), "--rates takes numbers above 0"),
    Case("tuning on too few bytes", tunes("--most", 0), "--most must be at least 1, but it is 0"),
    Case("unknown --split (tune_dynamic.py)", tunes("--split", "tset"), "choose another split with --split$"),
    Case("unknown --split (evaluate_text.py)", evaluates_text("--split", "tset"), "choose another split with --split$"),
]

# For bad_input/advice.py: rows, words of their messages, and what a user does who follows them.
ADVICE = [
    (
        (*(case.what for case in CASES[:3]), "dynamic clip negative", "lanes would learn what is not scored yet"),
        r"from 0 up|one of adam, rms, sgd|\(--batch-size 1\)",
        evaluates(*LEARN, "--dynamic-optimizer", "rms", "--dynamic-clip", 0, "--context-window", 16, "--batch-size", 1),
    ),
    (
        ("unknown --split (tune_dynamic.py)",),
        "choose another split with --split$",
        tunes("--split", "test", "--rates", "1e-3", "--decays", "", "--most", 200, "--cpu"),
    ),
    (
        ("unknown --split (evaluate_text.py)",),
        "choose another split with --split$",
        evaluates_text("--split", "valid"),
    ),
    (("dynamic decay above 1",), "from 0 to 1", evaluates_text(*LEARN, "--dynamic-decay", 1)),
    (
        tuple(case.what for case in CASES[6:9]),
        "leave out --num-shards and --shard-id|: name one|give it to fairseq-eval-lm",
        evaluates(*LEARN),
    ),
    (
        tuple(case.what for case in CASES if case.what.startswith("tuning ")),
        "numbers above 0|at least 1",
        tunes("--rates", "1e-3", "--decays", "", "--most", 200, "--cpu"),
    ),
]
