"""The first lines of a report: who is ahead, by how much, and where that changes."""

from typing import Dict, List, Optional, Sequence

from experiments.comparison.results import Results
from experiments.comparison.summary import Summary
from experiments.harness.markdown import NOTHING, number, table, without_empty_columns

FAMILIES = {
    "sha_rnn": "SHA-RNN",
    "transformer": "fairseq's Transformer",
    "transformer_xl": "Transformer with memory",
    "lstm": "fairseq's LSTM",
}


def headline(results: Results) -> List[str]:
    """Compare the best SHA-RNN with the best Transformer, each chosen by validation and compared by its test.

    Empty if one of them takes no part. Other lines tell which other Transformer has a better test, what longer runs say,
    and what a longer evaluation changes.
    """
    best = best_by_validation(results.summaries)
    if "sha_rnn" not in best or "transformer" not in best:
        return []
    ours, theirs = best["sha_rnn"], best["transformer"]
    gap = theirs.test_bpb.mean - ours.test_bpb.mean
    lines = [
        f"**After {results.setting.preset.budget} of training each on {results.setting.device}, the best SHA-RNN "
        f"({ours.title}) has {number(ours.test_bpb, 4)} bits per byte and the best Transformer ({theirs.title}) "
        f"{number(theirs.test_bpb, 4)}: SHA-RNN is {_ahead_by(gap)}{_noise(ours, theirs, gap)}.**"
        f"{_failures(ours, theirs)}{_better_by_test(results.summaries, theirs)}",
        "",
        *_longer_runs(results),
    ]
    order = sorted(best.values(), key=lambda item: item.test_bpb.mean)
    ranking = ", ".join(f"{FAMILIES[item.family]} {number(item.test_bpb, 4)}" for item in order)
    lines += [f"Test, bits per byte, of the best of each kind by validation: {ranking}.", ""]
    return lines + _with_more_time(results.summaries, ours)


def best_by_validation(summaries: Sequence[Summary]) -> Dict[str, Summary]:
    """The best of each family."""
    best: Dict[str, Summary] = {}
    for item in summaries:
        known = best.get(item.family)
        if item.test_bpb and (known is None or item.valid_bpb.mean < known.valid_bpb.mean):
            best[item.family] = item
    return best


def _ahead_by(gap: float) -> str:
    return f"{abs(gap):.4f} {'ahead' if gap > 0 else 'behind'}"


def _noise(ours: Summary, theirs: Summary, gap: float) -> str:
    if min(ours.test_bpb.count, theirs.test_bpb.count) < 2:
        return " (one seed)"
    deviation = max(ours.test_bpb.deviation, theirs.test_bpb.deviation)
    return "" if abs(gap) > 2 * deviation else " (within two deviations over seeds)"


def _failures(*summaries: Summary) -> str:
    failed = [f"{item.title}: {'; '.join(item.failed)}" for item in summaries if item.failed]
    return f" Not everything ended well: {'. '.join(failed)}." if failed else ""


def _better_by_test(summaries: Sequence[Summary], chosen: Summary) -> str:
    """Another of its family with a better test, which the choice by validation in plain blocks has missed."""
    tested = [item for item in summaries if item.family == chosen.family and item.test_bpb]
    least = min(tested, key=lambda item: item.test_bpb.mean)
    return "" if least is chosen else f" By test, {least.title} is better: {number(least.test_bpb, 4)}."


def _longer_runs(results: Results) -> List[str]:
    family_of = {item.name: item.family for item in results.summaries}
    tested = sorted((run for run in results.long if run.test_bpb is not None), key=lambda run: run.test_bpb)
    if not tested:
        return []
    ranking = ", ".join(f"{FAMILIES[family_of[run.contestant]]} {run.test_bpb:.4f}" for run in tested)
    return [f"After {tested[0].budget}, one seed: {ranking}.", ""]


def _with_more_time(summaries: Sequence[Summary], ours: Summary) -> List[str]:
    """What remains of the lead if evaluation may take longer, by the Transformer that is then the best."""
    tested = [item for item in summaries if item.family == "transformer" and _takes_longer(item, ours)]
    if not tested:
        return []
    theirs = min(tested, key=lambda item: item.half.bpb.mean)
    gap = theirs.half.bpb.mean - ours.test_bpb.mean
    return [
        f"If evaluation may take {_times(theirs, ours)} times as long as SHA-RNN's, with half of each window as context, "
        f"the best Transformer by test ({theirs.title}) has {number(theirs.half.bpb, 4)}: SHA-RNN is {_ahead_by(gap)}.",
        "",
    ]


def _takes_longer(item: Summary, ours: Optional[Summary]) -> bool:
    """Whether windows with half of them as context took more time than SHA-RNN's streaming."""
    half = item.half.seconds
    return half is not None and (ours is None or half.mean > ours.main.seconds.mean)


def _times(theirs: Summary, ours: Summary) -> str:
    return f"{theirs.half.seconds.mean / ours.main.seconds.mean:.2f}"


def half_section(summaries: Sequence[Summary]) -> List[str]:
    """What stateless models gain if their evaluation may take longer than SHA-RNN's."""
    ours = best_by_validation(summaries).get("sha_rnn")
    rows = [
        _half_row(item, ours)
        for item in summaries
        if item.half.bpb is not None and item.test_bpb is not None and _takes_longer(item, ours)
    ]
    if not rows:
        return []
    header = ["", "test that counts", "half of each window is context", "seconds", "times SHA-RNN's", "SHA-RNN's lead"]
    compared = ""
    if ours is not None:
        compared = f" {ours.title}: {number(ours.test_bpb, 4)} in {number(ours.main.seconds, 1)} s."
    return [
        "## If evaluation may take longer",
        "",
        f"The same models in windows whose first half is context, without a limit of time.{compared}",
        "",
        *table(*without_empty_columns(header, rows)),
    ]


def _half_row(item: Summary, ours: Optional[Summary]) -> List[str]:
    lead = [NOTHING, NOTHING]
    if ours is not None:
        lead = [_times(item, ours), f"{item.half.bpb.mean - ours.test_bpb.mean:+.4f}"]
    return [item.title, number(item.test_bpb, 4), number(item.half.bpb, 4), number(item.half.seconds, 1), *lead]
