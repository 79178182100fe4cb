"""Generation on CPU by width, threads, streams at once and kind of weights: the second table of speed.py."""

from dataclasses import asdict, replace
from typing import Callable, Dict, List, NamedTuple

from benchmarks.models import CASES, Case
from benchmarks.turns import Contestant, TimeLimit, measure
from experiments.harness.markdown import table
from fairseq_sharnn.ops.step import NARROW

STREAMS = (1, 4, 16)


class Group(NamedTuple):
    """Models that take turns: what is compared in a row of the table, and the threads."""

    threads: int
    contestants: Dict[str, Contestant]


def groups(threads: int) -> List[Group]:
    """D 128 with one thread and D 256 with all, for 1, 4 and 16 streams; D 1024 in each kind of weights."""
    found = []
    for name, count in (("tiny", 1), ("small", threads)):
        for streams in STREAMS:
            found.append(Group(count, _with_plain(replace(CASES[name], streams=streams), ["float32"])))
    return [*found, Group(threads, _with_plain(CASES["paper"], ["float32", *NARROW]))]


def _with_plain(case: Case, kinds: List[str]) -> Dict[str, Contestant]:
    ours = {kind: Contestant("fairseq_sharnn", replace(case, weights=kind)) for kind in kinds}
    return {**ours, "plain": Contestant("plain", case)}


def measured_groups(chosen: List[Group], repeats: int, limit: TimeLimit, progress: Callable) -> List[Dict]:
    """The result of each group, for JSON."""
    return [
        {
            "threads": threads,
            "case": asdict(next(iter(contestants.values())).case),
            "models": measure(contestants, "generation", repeats, threads, limit.next_part(), progress),
        }
        for threads, contestants in chosen
    ]


def generation_report(rows: List[Dict]) -> List[str]:
    """The lines of the table."""
    cells = []
    for row in rows:
        case, models = row["case"], row["models"]
        plain, exact = models["plain"].get("bytes_per_s"), models["float32"].get("bytes_per_s")
        for kind, result in models.items():
            rate = result.get("bytes_per_s")
            cells.append(
                [
                    f"{case['width']:,}",
                    row["threads"],
                    case["streams"],
                    "`plain`" if kind == "plain" else kind,
                    f"failed: {result['failed'][:80]}" if rate is None else f"{rate:,.0f}",
                    "" if rate is None else f"{1000 * case['streams'] / rate:.2f} ms",
                    "" if rate is None or plain is None else f"{rate / plain:.2f}",
                    "" if rate is None or exact is None or kind == "plain" else f"{rate / exact:.2f}",
                    len(result.get("seconds", [])),
                ]
            )
    header = ["D", "threads", "streams", "weights", "bytes/s", "a step", "of `plain`", "of float32", "turns"]
    return [
        "## Generation",
        "",
        "Bytes drawn one after the other, in one or several streams at once, each with a full memory. bytes/s are those of "
        "all streams together; a step draws one byte in each. The models of one D, one number of threads and one number of "
        "streams take turns. bfloat16 and int8 are the layers' matrices, as by `sample --weights`; `plain` is in float32.",
        "",
        *table(header, cells),
    ]
