"""The comparison at equal time of evaluation: each model by its best method that is as fast as is allowed.

The unit of time is what the static streaming of the best SHA-RNN by validation takes. Methods are chosen on valid.
"""

from typing import Dict, List, NamedTuple, Optional, Sequence

from experiments.comparison.evaluation import STREAMING
from experiments.comparison.records import DYNAMIC, MethodResult
from experiments.comparison.results import Results
from experiments.comparison.verdict import FAMILIES, best_by_validation
from experiments.harness.markdown import NOTHING, table, without_empty_columns
from experiments.harness.plots import Series

FACTORS = {1: "in that time", 2: "in twice that time", 4: "in four times that time"}


class Place(NamedTuple):
    """What a family has within a time: its contestant and method, both chosen on valid."""

    family: str
    result: MethodResult


def reference(results: Results) -> Optional[MethodResult]:
    """Static streaming of the best SHA-RNN by validation; None if it was not measured."""
    best = best_by_validation(results.summaries).get("sha_rnn")
    for result in results.methods:
        if best is not None and (result.contestant, result.method) == (best.name, STREAMING):
            return result
    return None


def best_within(methods: Sequence[MethodResult], seconds: float) -> Optional[MethodResult]:
    """The best on valid of those that take no longer than that on valid; None if none is as fast."""
    fast = [method for method in methods if method.valid_seconds <= seconds]
    return min(fast, key=lambda method: method.valid_bpb, default=None)


def ranking(results: Results, factor: float) -> List[Place]:
    """The families by their tests, the best first, each by its best contestant and method on valid within that time."""
    unit, family_of = reference(results), {item.name: item.family for item in results.summaries}
    by_family: Dict[str, List[MethodResult]] = {}
    for method in results.methods:
        by_family.setdefault(family_of[method.contestant], []).append(method)
    places = []
    for family, methods in by_family.items():
        best = None if unit is None else best_within(methods, factor * unit.valid_seconds)
        if best is not None:
            places.append(Place(family, best))
    return sorted(places, key=lambda place: place.result.test_bpb)


def equal_time_headline(results: Results) -> List[str]:
    """Who leads in 1, 2 and 4 times the unit; empty if methods were not measured."""
    unit = reference(results)
    if unit is None:
        return []
    parts = []
    for factor, time in FACTORS.items():
        places = ranking(results, factor)
        if len(places) > 1:
            first, second = places[:2]
            gap = second.result.test_bpb - first.result.test_bpb
            parts.append(
                f"{time}, {FAMILIES[first.family]} leads with {_in_words(results, first.result)}, {gap:.4f} "
                f"before {FAMILIES[second.family]} with {_in_words(results, second.result)}"
            )
    if not parts:
        return []
    return [
        f"**At equal time of evaluation (unit: {unit.test_seconds:.1f} s, static streaming of "
        f"{results.title_of(unit.contestant)}): {'; '.join(parts)}.**",
        "",
    ]


def _in_words(results: Results, result: MethodResult) -> str:
    return f"{result.test_bpb:.4f} ({results.title_of(result.contestant)}; {result.title})"


def equal_time_section(results: Results, plot: Sequence[str]) -> List[str]:
    """The table of the best within each time, the plot (its lines), and the table of all methods."""
    unit = reference(results)
    if unit is None:
        return []
    header = ["", *(f"within {factor} × {unit.test_seconds:.1f} s" for factor in FACTORS)]
    rows = []
    for summary in results.summaries:
        own = [method for method in results.methods if method.contestant == summary.name]
        if own:
            best = [best_within(own, factor * unit.valid_seconds) for factor in FACTORS]
            rows.append([summary.title, *map(_cell, best)])
    return [
        "## Evaluation at equal time",
        "",
        "Each model may use any method. Test, bits per byte, of the method that is best on valid among those that take no "
        f"longer on valid than 1, 2 and 4 times the static streaming of {results.title_of(unit.contestant)}, the best "
        "SHA-RNN by validation. Rates of dynamic evaluation are chosen on valid. Means over seeds.",
        "",
        *table(header, rows),
        *plot,
        *_all_methods(results),
    ]


def _cell(best: Optional[MethodResult]) -> str:
    return NOTHING if best is None else f"{best.test_bpb:.4f} ({best.title}, {best.test_seconds:.1f} s)"


def _all_methods(results: Results) -> List[str]:
    """All methods: static and dynamic figures have columns of their own."""
    header = [
        "",
        "method",
        "valid, static",
        "test, static",
        "valid, dynamic",
        "test, dynamic",
        "seconds, test",
        "seeds",
    ]
    rows = []
    for method in results.methods:
        figures = [f"{method.valid_bpb:.4f}", f"{method.test_bpb:.4f}"]
        columns = ["", "", *figures] if method.title.endswith(DYNAMIC) else [*figures, "", ""]
        title = results.title_of(method.contestant)
        rows.append([title, method.title, *columns, f"{method.test_seconds:.1f}", str(method.seeds)])
    return table(*without_empty_columns(header, rows))


def method_curves(results: Results) -> List[Series]:
    """Test against seconds of evaluation, a series for each contestant, the fastest method first."""
    series = []
    for summary in results.summaries:
        own = sorted(
            (method for method in results.methods if method.contestant == summary.name),
            key=lambda method: method.test_seconds,
        )
        if own:
            series.append(
                Series(summary.title, [method.test_seconds for method in own], [method.test_bpb for method in own])
            )
    return series
