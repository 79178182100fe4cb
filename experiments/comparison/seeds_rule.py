"""The rule for seeds: three wherever two rows are close and one of them is in the headline.

Close is a difference of less than three standard deviations over seeds.
"""

from typing import List, Sequence

from experiments.comparison.results import Results
from experiments.comparison.summary import Summary
from experiments.comparison.verdict import best_by_validation

SEEDS = 3
DEVIATIONS = 3
# Where nobody has several seeds: about the largest deviation of a test in versus_transformer/results/cpu.
USUAL_DEVIATION = 0.016


def deviation_of(one: Summary, other: Summary, everyone: Sequence[Summary]) -> float:
    """The larger deviation of the two; of everyone, where neither has several seeds; else the usual one."""
    for rows in ((one, other), everyone):
        known = [item.test_bpb.deviation for item in rows if item.test_bpb is not None and item.test_bpb.count > 1]
        if known:
            return max(known)
    return USUAL_DEVIATION


def lacking_seeds(summaries: Sequence[Summary]) -> List[Summary]:
    """The contestants with fewer than three seeds that are close to another, where one of the two is in the headline."""
    tested = [item for item in summaries if item.test_bpb is not None]
    in_headline = [item.name for item in best_by_validation(tested).values()]
    lacking = set()
    for one in tested:
        for other in tested:
            gap = abs(one.test_bpb.mean - other.test_bpb.mean)
            if one is other or one.name not in in_headline or gap >= DEVIATIONS * deviation_of(one, other, tested):
                continue
            lacking.update(item.name for item in (one, other) if item.test_bpb.count < SEEDS)
    return [item for item in tested if item.name in lacking]


def seeds_section(results: Results) -> List[str]:
    """Which rows break the rule, and the command that adds their seeds; empty where none does."""
    lacking = lacking_seeds(results.summaries)
    if not lacking:
        return []
    seeds = sorted({*range(1, SEEDS + 1), *results.setting.preset.seeds})[:SEEDS]
    names = ",".join(item.name for item in lacking)
    return [
        "## Rows that need more seeds",
        "",
        f"{', '.join(item.title for item in lacking)}: fewer than {SEEDS} seeds, and less than {DEVIATIONS} standard "
        "deviations from another row, where one of the two is in the headline. This command adds the seeds:",
        "",
        f"    {_without(results.setting.command, '--more-seeds')} --more-seeds {names}={','.join(map(str, seeds))}",
        "",
    ]


def _without(command: str, option: str) -> str:
    """A command without an option and its value."""
    words = command.split(" ")
    while option in words:
        place = words.index(option)
        del words[place : place + 2]
    return " ".join(words)
