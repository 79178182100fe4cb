"""Who is ahead, whoever it is, and where that changes: the first lines of a report, and its table of longer evaluations."""

from typing import Dict, List, Optional, Sequence

from experiments.harness.markdown import number, table


def headline(summaries: Sequence[Dict], budget: str, device: str, long: Sequence[Dict]) -> List[str]:
    """Who is ahead, whoever it is: of each family the form that is best by validation, compared by its test; which other
    Transformer has a better test; and whether a longer run of each says the same."""
    families = {"sha_rnn": "SHA-RNN", "transformer": "fairseq Transformer", "lstm": "fairseq LSTM"}
    best = _best(summaries)
    if "sha_rnn" not in best or "transformer" not in best:
        return []
    ours, theirs = best["sha_rnn"], best["transformer"]
    gap = theirs["test_bpb"]["mean"] - ours["test_bpb"]["mean"]
    word = "ahead of" if gap > 0 else "behind"
    lines = [
        f"**With {budget} of training each on {device}, SHA-RNN ({ours['title']}) is {abs(gap):.4f} bits per byte "
        f"{word} the best fairseq Transformer ({theirs['title']}): {number(ours['test_bpb'], 4)} against "
        f"{number(theirs['test_bpb'], 4)}{_noise(ours, theirs, gap)}.**{_failures(ours, theirs)}"
        f"{_better_by_test(summaries, theirs)}",
        "",
    ]
    family_of = {item["name"]: item["family"] for item in summaries}
    longer = [(run["test_bpb"], run) for run in long if run["test_bpb"] is not None]
    if longer:
        ranking = [
            f"{families[family_of[run['contestant']]]} {test:.4f}" for test, run in sorted(longer, key=lambda x: x[0])
        ]
        lines += [f"With {longer[0][1]['budget']}, one seed: " + ", ".join(ranking) + ".", ""]
    order = sorted(best.values(), key=lambda item: item["test_bpb"]["mean"])
    ranking = [f"{families[item['family']]} {number(item['test_bpb'], 4)}" for item in order]
    lines += ["Of each kind the best by validation, test, bits per byte: " + ", ".join(ranking) + ".", ""]
    return lines + _with_more_time(summaries, ours)


def _best(summaries: Sequence[Dict]) -> Dict[str, Dict]:
    """Of each family the one that is best by validation."""
    best: Dict[str, Dict] = {}
    for item in summaries:
        known = best.get(item["family"])
        if item["test_bpb"] and (known is None or item["valid_bpb"]["mean"] < known["valid_bpb"]["mean"]):
            best[item["family"]] = item
    return best


def _with_more_time(summaries: Sequence[Dict], ours: Dict) -> List[str]:
    """What becomes of the lead where Transformers may take longer to evaluate, by the one that gains most."""
    tested = [item for item in summaries if item["family"] == "transformer" and _takes_longer(item, ours)]
    if not tested:
        return []
    theirs = min(tested, key=lambda item: item["half_bpb"]["mean"])
    gap = theirs["half_bpb"]["mean"] - ours["test_bpb"]["mean"]
    return [
        f"Where evaluation may take {_times(theirs, ours)} times as long as SHA-RNN's (windows half of which is context), "
        f"the best Transformer by test ({theirs['title']}) has {number(theirs['half_bpb'], 4)}: SHA-RNN is {abs(gap):.4f} "
        f"{'ahead' if gap > 0 else 'behind'}.",
        "",
    ]


def _takes_longer(item: Dict, ours: Optional[Dict]) -> bool:
    """Whether it was evaluated in windows half of which is context, and that took more time than SHA-RNN's streaming."""
    half = item["half_seconds"]
    return half is not None and (ours is None or half["mean"] > ours["eval_seconds"]["mean"])


def _times(theirs: Dict, ours: Dict) -> str:
    return f"{theirs['half_seconds']['mean'] / ours['eval_seconds']['mean']:.2f}"


def _better_by_test(summaries: Sequence[Dict], chosen: Dict) -> str:
    """What the choice by validation, which is in plain blocks, passes over."""
    tested = [item for item in summaries if item["family"] == chosen["family"] and item["test_bpb"]]
    least = min(tested, key=lambda item: item["test_bpb"]["mean"])
    return "" if least is chosen else f" By test, {least['title']} is better: {number(least['test_bpb'], 4)}."


def _failures(*contestants: Dict) -> str:
    failed = [f"{item['title']}: {'; '.join(item['failed'])}" for item in contestants if item["failed"]]
    return f" Not all ended well: {'. '.join(failed)}." if failed else ""


def _noise(ours: Dict, theirs: Dict, gap: float) -> str:
    deviations = [ours["test_bpb"]["deviation"], theirs["test_bpb"]["deviation"]]
    if min(ours["test_bpb"]["count"], theirs["test_bpb"]["count"]) < 2:
        return " (one seed)"
    return "" if abs(gap) > 2 * max(deviations) else " (within two deviations over seeds)"


def half_rows(summaries: Sequence[Dict]) -> List[List[str]]:
    """What a stateless model gains by twice the arithmetic, and what SHA-RNN's best, if any takes part, is ahead by then."""
    ours = _best(summaries).get("sha_rnn")
    rows = []
    for item in summaries:
        half, seconds = item["half_bpb"], item["half_seconds"]
        if half is not None and item["test_bpb"] is not None and _takes_longer(item, ours):
            lead = ["–", "–"]
            if ours is not None:
                lead = [_times(item, ours), f"{half['mean'] - ours['test_bpb']['mean']:+.4f}"]
            rows.append([item["title"], number(item["test_bpb"], 4), number(half, 4), number(seconds, 1), *lead])
    return rows


def half_section(summaries: Sequence[Dict]) -> List[str]:
    """Where a stateless model may take more time to evaluate than SHA-RNN does."""
    rows = half_rows(summaries)
    if not rows:
        return []
    ours = _best(summaries).get("sha_rnn")
    beside = ""
    if ours is not None:
        test, seconds = number(ours["test_bpb"], 4), number(ours["eval_seconds"], 1)
        beside = f", beside {ours['title']} ({test} in {seconds} s)"
    header = [
        "",
        "test that counts",
        "half of each window is context",
        "seconds",
        "times SHA-RNN's",
        "SHA-RNN's lead",
    ]
    return [
        "## Where evaluation may take longer",
        "",
        f"The same models in windows whose first half is context, whatever that takes{beside}.",
        "",
        *table(header, rows),
    ]
