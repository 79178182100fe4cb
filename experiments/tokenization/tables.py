"""The tables of the report. Each column is a header and a function from a row to its cell."""

from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from experiments.harness.markdown import table
from experiments.tokenization.plan import MODELS
from experiments.tokenization.records import (
    AttackFigures,
    Manifest,
    PositionFigures,
    RunResult,
    SegmentationFigures,
    StudyResult,
)

Column = Tuple[str, Callable[[Any], str]]


class Row(NamedTuple):
    """One run: the names that a table shows, its data, and its figures."""

    tokenization: str
    model: str
    manifest: Manifest
    figures: RunResult


class AttackRow(NamedTuple):
    """One run with other segmentations."""

    tokenization: str
    model: str
    figures: AttackFigures


class SegmentationRow(NamedTuple):
    """One segmentation in one run, compared with the canonical one of that run."""

    tokenization: str
    model: str
    figures: SegmentationFigures
    canonical: SegmentationFigures


NAMES: Tuple[Column, ...] = (("tokenization", lambda row: row.tokenization), ("model", lambda row: row.model))


def rows_of(result: StudyResult) -> Iterator[Row]:
    """One row for each run, in the order of the plan."""
    for run, figures in result.runs.items():
        yield Row(run.tokenization, MODELS[run.model], result.manifests[run.tokenization], figures)


def attacked_rows(result: StudyResult) -> List[AttackRow]:
    """One row for each run that has other segmentations."""
    rows = rows_of(result)
    return [AttackRow(row.tokenization, row.model, row.figures.attack) for row in rows if row.figures.attack]


def segmentation_rows(
    result: StudyResult, choose: Callable[[AttackFigures], List[SegmentationFigures]]
) -> List[SegmentationRow]:
    """One row for each segmentation of each run. choose: which of the two lists of an attack."""
    return [
        SegmentationRow(row.tokenization, row.model, figures, choose(row.figures)[0])
        for row in attacked_rows(result)
        for figures in choose(row.figures)
    ]


def tabulate(columns: Sequence[Column], rows: Sequence[Any]) -> List[str]:
    """The lines of a table."""
    return table([header for header, _ in columns], [[cell(row) for _, cell in columns] for row in rows])


def percent(value: Optional[float]) -> str:
    """A share in percent; an empty cell for None."""
    return "" if value is None else f"{100 * value:.1f} %"


def signed(value: float, digits: int) -> str:
    """A difference with its sign; what is rounded to zero is +0."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def rounded(value: float) -> str:
    """A whole number; one that has more than eight digits as 4.08e+42, such as a perplexity per word without spaces."""
    return f"{value:,.0f}" if value < 1e8 else f"{value:.3g}"


def millions(value: float) -> str:
    """A number in millions."""
    return f"{value / 1e6:.2f} M"


def scale_table(result: StudyResult) -> List[str]:
    """All runs on one scale, with their sizes and costs."""
    columns: Tuple[Column, ...] = (
        *NAMES,
        ("vocabulary", lambda row: f"{row.manifest.vocabulary:,}"),
        ("bytes per token", lambda row: f"{row.figures.scale.bytes / row.figures.scale.tokens:.2f}"),
        ("parameters in embeddings", lambda row: millions(row.figures.parameters.embedding)),
        ("other parameters", lambda row: millions(row.figures.parameters.others)),
        ("perplexity per token", lambda row: f"{row.figures.scale.token_perplexity:.2f}"),
        ("nats per token", lambda row: f"{row.figures.scale.nats_per_token:.4f}"),
        ("bits per byte", lambda row: f"**{row.figures.scale.bits_per_byte:.4f}**"),
        ("perplexity per word", lambda row: rounded(row.figures.scale.word_perplexity)),
        ("training (CPU)", lambda row: f"{row.figures.training.cpu_seconds:,.0f} s"),
        ("peak memory", lambda row: f"{row.figures.training.peak_memory_bytes / 2**20:,.0f} MiB"),
    )
    return tabulate(columns, list(rows_of(result)))


def word_table(result: StudyResult) -> List[str]:
    """What the tokens inside words cost, and how many tokens and words are predicted."""
    columns: Tuple[Column, ...] = (
        *NAMES,
        ("tokens per word", lambda row: f"{row.figures.words.tokens_per_word:.2f}"),
        ("bits per word", lambda row: f"{row.figures.words.bits_per_word:.2f}"),
        ("bits in later tokens", lambda row: percent(row.figures.words.hidden_share)),
        ("later tokens", lambda row: percent(row.figures.words.later_tokens_share)),
        ("bits between words", lambda row: percent(row.figures.words.between_share)),
        ("first tokens right", lambda row: percent(row.figures.words.first_accuracy)),
        ("later tokens right", lambda row: percent(row.figures.words.later_accuracy)),
        ("tokens right", lambda row: percent(row.figures.words.token_accuracy)),
        ("words right", lambda row: percent(row.figures.words.word_accuracy)),
        ("words of several tokens right", lambda row: percent(row.figures.words.word_accuracy_of_several)),
    )
    return tabulate(columns, list(rows_of(result)))


def position_table(result: StudyResult) -> List[str]:
    """Bits by position inside the word."""
    rows = list(rows_of(result))
    deepest = max(len(row.figures.words.by_position) for row in rows)

    def bits(position: int) -> Column:
        def cell(row: Row) -> str:
            figures: List[PositionFigures] = row.figures.words.by_position
            return f"{figures[position].bits:.2f}" if position < len(figures) else ""

        return str(position + 1), cell

    return tabulate((*NAMES, *map(bits, range(deepest))), rows)


def resegmented_table(result: StudyResult) -> List[str]:
    """The same text under other segmentations."""
    columns: Tuple[Column, ...] = (
        *NAMES,
        ("segmentation", lambda row: row.figures.segmentation),
        ("tokens", lambda row: f"{row.figures.tokens:,}"),
        ("bits per word", lambda row: f"{row.figures.bits_per_word:.3f}"),
        ("change", lambda row: signed(row.figures.bits_per_word - row.canonical.bits_per_word, 3)),
        ("perplexity per token", lambda row: f"{row.figures.token_perplexity:.2f}"),
    )
    return tabulate(columns, segmentation_rows(result, lambda figures: figures.resegmented))


def sum_table(result: StudyResult) -> List[str]:
    """Bits per word, summed over the n best segmentations."""
    rows = attacked_rows(result)
    sizes = list(rows[0].figures.summed.bits_per_word)

    def bits(size: int) -> Column:
        return f"n = {size}", lambda row: f"{row.figures.summed.bits_per_word[size]:.3f}"

    def gained(row: AttackRow) -> float:
        return row.figures.summed.bits_per_word[sizes[0]] - row.figures.summed.bits_per_word[sizes[-1]]

    columns: Tuple[Column, ...] = (
        *NAMES,
        ("words", lambda row: f"{row.figures.summed.words:,}"),
        ("segmentations per word", lambda row: f"{row.figures.summed.segmentations_per_word:.1f}"),
        *map(bits, sizes),
        ("gained", lambda row: f"{gained(row):.3f}"),
        ("unscored", lambda row: percent(1 - 2 ** -gained(row))),
    )
    return tabulate(columns, rows)


def search_table(result: StudyResult) -> List[str]:
    """The first words of the text under the segmentations that a search finds."""

    def moved(row: SegmentationRow) -> float:
        return row.figures.token_perplexity / row.canonical.token_perplexity - 1

    columns: Tuple[Column, ...] = (
        *NAMES,
        ("segmentation", lambda row: row.figures.segmentation),
        ("tokens", lambda row: f"{row.figures.tokens:,}"),
        ("perplexity per token", lambda row: f"{row.figures.token_perplexity:.2f}"),
        ("moved", lambda row: f"{signed(100 * moved(row), 1)} %"),
        ("bits per word", lambda row: f"{row.figures.bits_per_word:.3f}"),
        ("change", lambda row: signed(row.figures.bits_per_word - row.canonical.bits_per_word, 3)),
    )
    return tabulate(columns, segmentation_rows(result, lambda figures: figures.searched))
