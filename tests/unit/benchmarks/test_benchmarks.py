"""What the measuring programs compute and write; never how fast anything is."""

import itertools
import json
from dataclasses import replace

import pytest
import torch

from benchmarks import generation, growth, loss_compare, models, speed, turns
from benchmarks.models import CASES, NAMES, TURN_BYTES, Case, build
from benchmarks.pieces import bytes_to_move, evaluation_operations, operations, pieces
from benchmarks.report import speed_report
from benchmarks.worker import Worker, WorkerFailed
from fairseq_sharnn.ops import kernels

SMALL = Case(width=32, boom_width=64, lanes=4, length=8, context=24, layers=2)


def test_losses_of_both_are_the_same():
    """With the CPU kernels also under the published dropout: reference.py uses the masks that the kernels drew."""
    rows = loss_compare.compare(3, "cpu")
    assert [row["dropout"] for row in rows] == ([0.0, 0.0, 0.1] if kernels.ops is not None else [0.0, 0.0])
    assert all(row["same"] for row in rows)
    assert rows[0]["last"] < rows[0]["first"]


@pytest.mark.skipif(kernels.ops is None, reason="the CPU kernels were not compiled")
def test_a_difference_is_seen(monkeypatch):
    """Masks in other places give another loss: dropout really is compared."""
    calls = loss_compare._calls_of_dropout
    monkeypatch.setattr(loss_compare, "_calls_of_dropout", lambda seeds: calls(seeds[::-1]))
    assert [row["same"] for row in loss_compare.compare(2, "cpu")] == [True, True, False]


@pytest.mark.parametrize("name", ["fairseq_sharnn", "plain", "transformer_lm"])
@pytest.mark.parametrize("workload", ["training", "evaluation", "generation"])
def test_models_do_each_workload(name, workload, monkeypatch):
    monkeypatch.setattr(models, "TURN_SECONDS", 0)
    model = build(name, SMALL)
    model.prepare(workload)
    before = [p.clone() for p in model.model.parameters()]
    assert getattr(model, workload)() == (32 if workload == "generation" else SMALL.tokens)
    moved = any(not torch.equal(a, b) for a, b in zip(before, model.model.parameters()))
    assert moved == (workload == "training")


@pytest.mark.parametrize("name", NAMES)
def test_generation_draws_in_each_stream(name):
    model = build(name, replace(SMALL, streams=3))
    model.prepare("generation")
    assert model.draw(5) == 15


def test_a_turn_of_generation_draws_until_its_time_is_over(monkeypatch):
    """However fast the model is: its first step, when the caches hold the model before, must not decide."""
    clock = itertools.count()
    monkeypatch.setattr(models.time, "perf_counter", lambda: next(clock) * models.TURN_SECONDS / 4)
    model = build("fairseq_sharnn", SMALL)
    model.prepare("generation")
    assert model.generation() == 4 * TURN_BYTES


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
def test_generation_reads_the_weights_of_the_case(kind):
    model = build("fairseq_sharnn", replace(SMALL, weights=kind))
    model.prepare("generation")
    assert {matrix.rows.dtype for matrix in model.model._narrow.values()} == {getattr(torch, kind)}
    assert model.draw(2) == 2


def test_jittered_chunks_are_the_same_for_every_model():
    """Those of the published recipe: most are not of T bytes. The Transformer has positions for the longest."""
    case, done = replace(SMALL, jittered=True), []
    for name in NAMES:
        model = build(name, case)
        model.prepare("training")
        done.append([model.training() // case.lanes for _ in range(5)])
    assert done[0] == done[1] == done[2] and len(set(done[0])) > 2


def test_a_gpu_measures_jittered_chunks_too():
    chosen = speed.cases(["small", "paper"], "cuda", ["fp16"], [16, 64])
    assert [label for label, case in chosen.items() if case.jittered] == [
        "paper, fp16, B 16, jittered chunks",
        "paper, fp16, B 64, jittered chunks",
    ]
    assert not any(case.jittered for case in speed.cases(["paper"], "cpu", ["fp32"], [16]).values())


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_parameters_are_equal(size):
    ours, naive, transformer = (
        build(name, CASES[size]).parameters for name in ("fairseq_sharnn", "plain", "transformer_lm")
    )
    assert ours == naive
    assert abs(transformer - ours) < 0.01 * ours


def test_operations_follow_the_sizes():
    """The LSTM's 16 D² a token and layer, three times; attention grows with the context, the others do not."""
    needed = operations(SMALL)
    assert needed["LSTM"] == 3 * 16 * 32 * 32 * 2 * SMALL.tokens
    assert needed["Boom"] == 3 * 2 * 32 * 64 * 2 * SMALL.tokens
    longer = operations(replace(SMALL, context=1024))
    assert longer["attention"] - needed["attention"] == SMALL.tokens * 8 * 32 * 1000
    assert longer["Boom"] == needed["Boom"]
    assert bytes_to_move(SMALL, 1000)["optimizer"] == 48_000


def test_evaluation_needs_only_a_forward_pass():
    """A third of training where all is products of weights; over the memory, two products instead of four."""
    bare = replace(SMALL, attention="none")
    trained = sum(operations(bare).values())
    projection = 2 * 32 * 260
    assert evaluation_operations(bare) == trained / 3 / SMALL.tokens + projection
    longer = replace(SMALL, context=1024)
    assert evaluation_operations(longer) - evaluation_operations(SMALL) == 4 * 32 * 1000


def test_pieces_run():
    for piece in pieces(SMALL).values():
        piece()


def test_worker_reports_its_own_memory_and_its_failure():
    big = torch.ones(300_000_000)  # a parent of 1.2 GB
    with Worker("fairseq_sharnn", SMALL, "training", 1) as worker:
        done = worker.work()
    assert done["bytes"] == SMALL.tokens and worker.ready["start_bytes"] <= done["peak_bytes"] < big.numel() * 4
    with pytest.raises(WorkerFailed, match="`width` must be at least 1, but it is -1"):
        Worker("fairseq_sharnn", replace(SMALL, width=-1), "training", 1)


def canned(same: bool = True):
    """A result as speed.py makes it, with round numbers."""
    done = {
        "parameters": 2_000_000,
        "bytes_per_s": 3000.0,
        "peak_bytes": 6e8,
        "start_bytes": 2e8,
        "median_seconds": 1.0,
    }
    plain = {**done, "bytes_per_s": 1000.0, "peak_bytes": 12e8}
    workloads = {"training": {"fairseq_sharnn": done, "plain": plain, "transformer_lm": {"failed": "out of memory"}}}
    workloads["evaluation"] = workloads["training"]
    loss = {"type": "float32", "dropout": 0.1, "updates": 3, "first": 5.5, "last": 5.0, "last_plain": 5.0}
    return {
        "command": "python -m benchmarks.speed",
        "machine": {
            **{"cpu": "C", "threads": 2, "gpu": None, "python": "3", "torch": "2", "fairseq": "0", "date": "d"},
            **{"cpu_kernels": True, "capability": "AVX2"},
        },
        "cases": {
            "tiny": {
                "case": vars(CASES["tiny"]),
                "workloads": workloads,
                "breakdown": {
                    "evaluation_operations_per_byte": 2.5e7,
                    "product_ops_per_s": 1e11,
                    "copy_bytes_per_s": 1e10,
                    "update_seconds": 2.0,
                    "pieces": {"LSTM": {"seconds": 1.0, "operations": 5e10, "bytes": None}},
                },
            }
        },
        "losses": [{**loss, "largest_difference": 1e-7, "allowed": 1e-5, "same": same}],
    }


def test_report_shows_ratios_failures_and_the_comparison():
    text = speed_report(json.loads(json.dumps(canned())))
    assert "| `fairseq_sharnn` | 2.00 M | 3,000 (3.00) | 3,000 (3.00) | 0.60 GB (0.500; 0.40 above the start) |" in text
    assert "failed: out of memory" in text
    assert (
        "needs 25.0 MFLOP" in text
        and "4,000 bytes/s, 4.00 times that of `plain`; this package reaches 75% of that" in text
    )
    assert "| LSTM | 1000.0 ms | 50% | 50.0 | 50% |" in text
    assert "## The numbers are the same" in text
    assert "THE NUMBERS DIFFER" in speed_report(canned(same=False))


def test_generation_is_compared_with_plain_and_with_float32():
    result = canned()
    seven = {"seconds": [1.0] * 7}
    models = {"float32": {**seven, "bytes_per_s": 500.0}, "int8": {"seconds": [1.0] * 3, "bytes_per_s": 1250.0}}
    models.update(bfloat16={"failed": "out of memory"}, plain={**seven, "bytes_per_s": 25.0})
    result["generation"] = [{"threads": 2, "case": vars(replace(CASES["paper"], streams=4)), "models": models}]
    text = speed_report(json.loads(json.dumps(result)))
    assert "| 1,024 | 2 | 4 | int8 | 1,250 | 3.20 ms | 50.00 | 2.50 | 3 |" in text
    assert "| 1,024 | 2 | 4 | `plain` | 25 | 160.00 ms | 1.00 |  | 7 |" in text
    assert "failed: out of memory" in text


def test_each_width_of_generation_has_its_streams_and_weights():
    found = [
        (group.threads, case.width, case.streams, [*group.contestants])
        for group in generation.groups(2)
        for case in [group.contestants["plain"].case]
    ]
    kinds = ["float32", "plain"]
    assert found == [
        *((1, 128, streams, kinds) for streams in (1, 4, 16)),
        *((2, 256, streams, kinds) for streams in (1, 4, 16)),
        (2, 1024, 1, ["float32", "bfloat16", "int8", "plain"]),
    ]


def test_turns_end_at_the_limit_but_each_model_has_one():
    both = {name: turns.Contestant(name, SMALL) for name in ("fairseq_sharnn", "plain")}
    done = turns.measure(both, "generation", 5, 1, 0.0, lambda: None)
    assert [len(row["seconds"]) for row in done.values()] == [1, 1] and all(row["bytes_per_s"] for row in done.values())


@pytest.mark.parametrize("device, most", [("cpu", 2), ("cuda", 1)])
def test_a_gpu_holds_one_model_at_a_time(monkeypatch, device, most):
    held, turns_done = [0, 0], []

    class Held:
        def __init__(self, *order):
            self.ready = {}
            held[0] += 1
            held[1] = max(held)

        def work(self):
            return {"seconds": 2.0, "bytes": 8, "peak_bytes": 1}

        def close(self):
            held[0] -= 1

    monkeypatch.setattr(turns, "Worker", Held)
    both = {name: turns.Contestant(name, replace(SMALL, device=device)) for name in ("fairseq_sharnn", "plain")}
    done = turns.measure(both, "training", 3, 1, 60.0, lambda: turns_done.append(1))
    assert held == [0, most] and len(turns_done) == 3
    assert {label: (row["bytes_per_s"], len(row["seconds"])) for label, row in done.items()} == dict.fromkeys(
        both, (4.0, 3)
    )


def test_measurements_share_what_is_left_of_the_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(turns.time, "monotonic", lambda: now[0])
    limit = turns.TimeLimit(2, 3)
    assert limit.next_part() == 40
    now[0] += 20  # less than its part
    assert limit.next_part() == 50
    now[0] += 200
    assert limit.next_part() == 0


@pytest.mark.parametrize(
    "options, message",
    [
        (["--tables", "sizes,speeds"], "--tables speeds is not one of sizes, generation"),
        (["--minutes", "0"], "--minutes must be above 0"),
        (["--tables", "generation", "--device", "cuda"], "--tables generation is for --device cpu"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message, capsys):
    with pytest.raises(SystemExit):
        speed.main(options)
    assert message in capsys.readouterr().err


def test_slope_is_the_exponent_of_growth():
    rows = [{"context": 1000, "training": 2.0}, {"context": 2000, "training": 8.0}, {"context": 4000, "failed": "x"}]
    assert [growth.slope(rows, n, "context", "training") for n in range(3)] == ["", "2.00", ""]


def test_growth_is_reported_and_drawn(tmp_path):
    rows = [
        {"context": size, "lanes": 4, "training": size / 1e4, "peak_bytes": size * 1e5, "generation": 1e-3}
        for size in (1024, 2048, 4096)
    ]
    result = {
        "command": "python -m benchmarks.growth",
        "machine": canned()["machine"],
        "case": {**vars(CASES["small"]), "context_lanes": 4},
        "series": {"context": [*rows, {"context": 8192, "lanes": 4, "failed": "out of memory"}], "lanes": rows[:1]},
    }
    text = growth.report(result, "growth")
    assert "| 2,048 | 205 ms | 1.00 | 0.20 GB | 1.00 | 1.00 ms | 0.00 |" in text and "failed: out of memory" in text
    assert "\n\n\n" not in text and "![Time and memory against context length and lanes](growth.svg)" in text
    growth.plot(result, tmp_path / "growth")
    assert (tmp_path / "growth.png").stat().st_size > 5000 and b"<svg" in (tmp_path / "growth.svg").read_bytes()
