"""REPORT.md and figures.json of a study. All prose of the report is here."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import List

from experiments.harness.folder import write_json, write_text
from experiments.harness.markdown import image
from experiments.harness.processes import USER_DIR
from experiments.tokenization.plan import MODELS
from experiments.tokenization.plots import draw_all
from experiments.tokenization.records import StudyResult
from experiments.tokenization.tables import (
    attacked_rows,
    position_table,
    resegmented_table,
    rows_of,
    scale_table,
    search_table,
    sum_table,
    word_table,
)


def write_report(out: Path, result: StudyResult) -> None:
    """Write the report, its plots, and all figures as figures.json into the output folder."""
    draw_all(out, result)
    figures = {run.name: asdict(item) for run, item in result.runs.items()}
    for item in figures.values():
        del item["training"]["command"]  # it has paths of this machine; the report shows it without them
        if item["attack"] is None:
            del item["attack"]
    manifests = {name: asdict(manifest) for name, manifest in result.manifests.items()}
    write_json(out / "figures.json", {"tokenizations": manifests, "runs": figures})
    write_text(out / "REPORT.md", "\n".join(render(out, result)))


def render(out: Path, result: StudyResult) -> List[str]:
    """The lines of REPORT.md. out: the folder whose name replaces paths in the commands."""
    return [
        *head(result),
        *_scale(result),
        *_words(result),
        *_resegmented(result),
        *_sums(result),
        *_search(result),
        *_commands(out, result),
    ]


def head(result: StudyResult) -> List[str]:
    """What the report begins with: the text, the models, and what a reader of figures per word must know."""
    plan, splits, note = result.plan, result.manifests["bytes"].splits, result.manifests["bytes"].note
    passes = "once" if plan.passes == 1 else f"{plan.passes:g} times"
    return [
        f"# What tokenization does to a perplexity: {plan.text}",
        "",
        f"    {result.command}",
        "",
        f"The text has the sha256 digest {plan.sha256[:16]}... It is cut into splits of 90, 5 and 5 percent. Models train "
        f"on {splits['train'].bytes:,} bytes and are tested on the last {splits['test'].bytes:,} bytes "
        f"({splits['test'].words:,} words).",
        "",
        f"Every model reads the training text {passes}. An update has {plan.lanes} chunks, and a chunk covers about "
        f"{plan.window} bytes in every tokenization, so that all models make about as many updates on the same text. Width, "
        "depth and optimizer settings are the same in all tokenizations. Nothing was tuned for one of them. There is one "
        "run of each: differences of a few thousandths of a bit are noise.",
        "",
        "Words are cut by sacremoses, and the most frequent ones are kept. The spelling of an `<unk>` is charged by a "
        "uniform byte model. Pieces are sentencepiece's (unigram, byte fallback, no normalisation). Bits per byte and "
        "perplexity per word are of the original text, and both follow from one total.",
        "",
        *([f"Note: {note}.", ""] if note else []),
    ]


def _scale(result: StudyResult) -> List[str]:
    rows = list(rows_of(result))
    lowest = min(rows, key=lambda row: row.figures.scale.token_perplexity)
    best = min(rows, key=lambda row: row.figures.scale.bits_per_byte)
    return [
        "## One scale",
        "",
        *scale_table(result),
        f"The lowest perplexity per token is that of {lowest.tokenization} ({lowest.model}). The fewest bits per byte are "
        f"those of {best.tokenization} ({best.model}). Nats per token include the spelling of `<unk>`. Perplexity per token "
        "does not, as in papers.",
        "",
        *image("scale", "Left: perplexity per token, each on its own scale. Right: bits per byte, all on one scale"),
    ]


def _words(result: StudyResult) -> List[str]:
    return [
        "## Inside words",
        "",
        "The first token of a word is predicted from the text before the word. Every later token is scored with the true "
        "beginning of the word given (teacher forcing), so part of the word's cost is hidden in later tokens.",
        "",
        "- *Tokens right*: the most likely token is the true one, with teacher forcing.",
        "- *Words right*: greedy decoding from the text before the word would write exactly this word and then end it.",
        "- *Bits per word* include the bits between words: spaces, line ends, marks of spacing. `<unk>` is never right.",
        "",
        *word_table(result),
        "Bits by position inside the word, given the true tokens before it. The last column has that position and all later "
        "ones.",
        "",
        *position_table(result),
        *image("positions", "Bits by position inside the word, for each tokenization"),
    ]


def _resegmented(result: StudyResult) -> List[str]:
    size = attacked_rows(result)[0].figures.bytes
    return [
        "## The attack",
        "",
        f"### The same text in other segmentations (the first {size:,} bytes of the test text)",
        "",
        "All of these segmentations are valid: they decode to the same bytes. `best number k` takes the k-th best "
        "segmentation of every word, or the last one where there are fewer. Bytes have one segmentation: the control.",
        "",
        *resegmented_table(result),
    ]


def _sums(result: StudyResult) -> List[str]:
    return [
        "### The sum over segmentations",
        "",
        "Bits per word, with the n best segmentations of each word summed. n = 1 is the canonical segmentation only. The "
        "text before each word is the true one in its canonical segmentation. *Gained* is probability that the model gives "
        "to segmentations which nobody scores. *Unscored* is its share of the summed probability (geometric mean over "
        "words).",
        "",
        *sum_table(result),
    ]


def _search(result: StudyResult) -> List[str]:
    return [
        "### The segmentation that makes the text look easiest",
        "",
        "A greedy search from left to right compares the 16 best segmentations of each word. `easiest looking` takes the "
        "one with the lowest perplexity per token so far. `likeliest` takes the one with the fewest bits. The text is the "
        "same in every row.",
        "",
        *search_table(result),
        *image(
            "segmentations",
            "Left: bits gained by summing over segmentations. Right: the search lowers the reported perplexity of one text, "
            "and its bits per word rise",
        ),
    ]


def _commands(out: Path, result: StudyResult) -> List[str]:
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    folder = str(out.resolve())
    lines = ["## Commands and versions", "", f"Python {result.python}, {versions}. CPU, one core for each run.", ""]
    for run, figures in result.runs.items():
        training = figures.training
        command = shlex.join(training.command).replace(str(USER_DIR), "fairseq_sharnn")
        command = command.replace(folder, f"results/{out.resolve().name}")
        cost = f"{training.updates:,} updates, {training.seconds:,.0f} s"
        lines.append(f"- {run.tokenization}, {MODELS[run.model]} ({cost}): `{command}`")
    return [*lines, ""]
