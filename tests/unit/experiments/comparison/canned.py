"""Results as they come out of a small comparison, without training."""

from types import SimpleNamespace

from experiments.comparison.preset_options import choose
from experiments.comparison.records import Evaluation, FittedContext, Generation, Point
from experiments.comparison.results import Results, Setting
from experiments.comparison.run_result import RunResult, TrialResult
from experiments.comparison.splits import Split
from experiments.comparison.summary import summarise
from experiments.comparison.windows import Allowance
from experiments.harness.machine import Machine, MadeBy


def evaluation(mode, bpb, seconds=10.0):
    return Evaluation(mode, f"fairseq-eval-lm {mode}", None, bpb, 1000, seconds, 1000 / seconds, 2**28)


def run(name, seed, bpb, *evaluations, kind="run", made=RunResult, **changes):
    values = {
        "kind": kind,
        "contestant": name,
        "seed": seed,
        "trial": "lr 0.1",
        "budget": "3 minutes",
        "parameters": 1000,
        "status": "finished",
        "points": [Point(i, 10 * i, 1e6 * i, bpb + 1 / i) for i in (1, 2, 3)],
        "train_seconds": 180.0,
        "updates": 30,
        "bytes": 3e6,
        "peak_memory": 2**29,
        "made_by": [MadeBy("abc", "12")],
        "cores": 0.9,
        "commands": [f"fairseq-train {name}"],
        "bytes_per_second": 3e6 / 180,
        "valid_bpb": bpb,
        "evaluations": list(evaluations),
        "generation": Generation("python", None, 5, {"1000": 500.0, "4000": 400.0}),
        "test_bpb": [item.bpb for item in evaluations if item.mode != "half"][-1] if evaluations else None,
    }
    return made(**{**values, **changes})


def contestant(name, title, family):
    return SimpleNamespace(name=name, title=title, family=family, streaming=family == "sha_rnn")


CONTESTANTS = (contestant("sha_rnn", "SHA-RNN", "sha_rnn"), contestant("wide", "Wide Transformer", "transformer"))


def canned(sha=2.0, transformer=2.5, failed=False, **changes):
    """SHA-RNN with three seeds and a Transformer with two; `failed`: a third seed of it that has failed."""
    runs = [run("sha_rnn", seed, sha, evaluation("streaming", sha + seed / 100)) for seed in (1, 2, 3)]
    runs += [
        run(
            "wide",
            seed,
            transformer,
            evaluation("blocks", transformer + 0.1, 4.0),
            evaluation("window-64", transformer, 9),
            evaluation("half", transformer - 0.2, 20),
        )
        for seed in (1, 2)
    ]
    if failed:
        runs.append(run("wide", 3, 9.0, status="failed", reason="RuntimeError: no luck"))
    windows = {"sha_rnn": FittedContext(), "wide": FittedContext(64)}
    summaries = [
        summarise(item, [run for run in runs if run.contestant == item.name], windows[item.name])
        for item in CONTESTANTS
    ]
    trial = run("wide", 1, 3.0, kind="trial", made=TrialResult, options="lr 0.1, linear", chosen=True, edge=True)
    values = {
        "setting": setting(),
        "complete": True,
        "summaries": summaries,
        "trials": [trial],
        "runs": runs,
        "long": [run("sha_rnn", 1, 1.5, evaluation("streaming", 1.5), kind="long")],
        "windows": windows,
        "allowance": Allowance("sha_rnn", 10.0),
    }
    return Results(**{**values, **changes})


def setting(name="cpu", **options):
    return Setting(
        script="compare_transformer.py",
        command="scripts/compare_transformer.py data",
        preset=choose(name, **{"minutes": 3, "trial_minutes": 1, **options}),
        data={name: Split(1000, "ab" * 32) for name in ("train", "valid", "test")},
        machine=Machine("Abacus", 2, "1 GiB", "none", "Linux", "3.11", {"torch": "2"}, "loaded", "abc"),
        device="one core of Abacus",
        idle_memory=2**20,
    )
