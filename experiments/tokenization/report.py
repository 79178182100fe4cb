"""REPORT.md: tables, plots, commands, versions."""

import os
import platform
from importlib import metadata
from typing import Dict, List

from experiments.harness.processes import USER_DIR
from experiments.tokenization.plan import Folder, Plan, Run, write_json
from experiments.tokenization.plots import MODELS, Results, draw


def table(header: List[str], rows: List[List[str]]) -> List[str]:
    """A Markdown table."""
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def percent(value) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def signed(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def millions(value: float) -> str:
    return f"{value / 1e6:.2f} M"


def write_report(plan: Plan, folder: Folder, abouts: Dict[str, Dict], results: Results, command: str) -> None:
    """Write the report, its plots, and all figures as figures.json, into the output folder."""
    names = draw(folder.out, plan.tokenizations, plan.models, results)
    figures = {run.name: {step: _public(found) for step, found in steps.items()} for run, steps in results.items()}
    write_json(os.path.join(folder.out, "figures.json"), {"tokenizations": abouts, "runs": figures})
    lines = [
        *_head(plan, abouts, command),
        *_scale(plan, abouts, results),
        *_inside(plan, results),
        *_resegmented(plan, results),
        *_summed(plan, results),
        *_searched(plan, results),
        *_appendix(plan, folder, results),
    ]
    assert set(names) == {"scale", "positions", "segmentations"}
    path = os.path.join(folder.out, "REPORT.md")
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    os.replace(f"{path}.tmp", path)


def _public(found: Dict) -> Dict:
    return {key: value for key, value in found.items() if key != "command"}


def _head(plan: Plan, abouts, command: str) -> List[str]:
    train, test = (abouts["bytes"]["splits"][split] for split in ("train", "test"))
    return [
        f"# What tokenization does to a perplexity: {os.path.basename(plan.text)}",
        "",
        f"    {command}",
        "",
        f"The text (sha256 {plan.sha256[:16]}...) is cut 90 / 5 / 5: {train['bytes']:,} bytes to train on, the "
        f"last {test['bytes']:,} bytes ({test['words']:,} words) to test. Every model reads the training text "
        f"{plan.passes:g} times, in updates of {plan.lanes} chunks that each cover about {plan.window} bytes, so "
        "that all make about as many updates on the same text. Width, depth and optimizer settings are the same "
        "in all tokenizations; nothing was tuned for one of them. One run each: differences of a few thousandths "
        "of a bit are noise.",
        "",
        "Words are cut by sacremoses, the most frequent ones kept; `<unk>` is charged for its spelling by a "
        "uniform byte model. Pieces are sentencepiece's (unigram, byte fallback, no normalisation). Bits per "
        "byte and perplexity per word are of the original text, from one total.",
        "",
    ]


def _each(plan: Plan, results: Results):
    for tokenization in plan.tokenizations:
        for model in plan.models:
            yield tokenization, model, results[Run(tokenization, model)]


def _scale(plan: Plan, abouts, results: Results) -> List[str]:
    rows = []
    for name, model, found in _each(plan, results):
        scale, training, about = found["scale"], found["training"], abouts[name]
        rows.append(
            [
                *(name, MODELS[model], f"{about['vocabulary']:,}", f"{scale['bytes'] / scale['tokens']:.2f}"),
                *(millions(training["embedding_parameters"]), millions(training["other_parameters"])),
                *(
                    f"{scale['token_perplexity']:.2f}",
                    f"{scale['nats_per_token']:.4f}",
                    f"**{scale['bits_per_byte']:.4f}**",
                ),
                *(f"{scale['word_perplexity']:,.0f}", f"{training['cpu_seconds']:,.0f} s"),
                f"{training['peak_memory_bytes'] / 2**20:,.0f} MiB",
            ]
        )
    header = [
        "tokenization",
        "model",
        "vocabulary",
        "bytes a token",
        "in embeddings",
        "elsewhere",
        "perplexity per token",
    ]
    header += ["nats per token", "bits per byte", "perplexity per word", "training (CPU)", "peak memory"]
    best = min(_each(plan, results), key=lambda row: row[2]["scale"]["bits_per_byte"])
    lowest = min(_each(plan, results), key=lambda row: row[2]["scale"]["token_perplexity"])
    return [
        "## One scale",
        "",
        *table(header, rows),
        f"By its own perplexity per token {lowest[0]} ({MODELS[lowest[1]]}) is ahead; on the common scale it is "
        f"{best[0]} ({MODELS[best[1]]}). Nats per token include what `<unk>` is charged; perplexity per token, as "
        "papers print it, does not.",
        "",
        "![each on its own scale, and on one](scale.png)",
        "",
    ]


def _inside(plan: Plan, results: Results) -> List[str]:
    deepest = max(len(found["words"]["by_position"]) for _, _, found in _each(plan, results))
    rows, detail = [], []
    for name, model, found in _each(plan, results):
        words = found["words"]
        rows.append(
            [
                *(name, MODELS[model], f"{words['tokens_per_word']:.2f}", f"{words['bits_per_word']:.2f}"),
                *(
                    percent(words["hidden_share"]),
                    percent(words["later_tokens_share"]),
                    percent(words["between_share"]),
                ),
                *(percent(words["first_accuracy"]), percent(words["later_accuracy"]), percent(words["token_accuracy"])),
                *(percent(words["word_accuracy"]), percent(words["word_accuracy_of_several"])),
            ]
        )
        by = [f"{row['bits']:.2f}" for row in words["by_position"]]
        detail.append([name, MODELS[model], *by, *[""] * (deepest - len(by))])
    header = ["tokenization", "model", "tokens a word", "bits a word", "of it in later tokens", "later tokens of all"]
    header += [
        "bits between words",
        "first right",
        "later right",
        "tokens right",
        "words right",
        "words of several right",
    ]
    return [
        "## Inside words",
        "",
        "A word's first token is guessed from the text before it; every later one is scored with the true "
        "beginning of the word given (teacher forcing). What stands in later tokens is what that hides. *Words "
        "right*: all tokens of the word, each the likeliest after those before, and an end behind it, so that the "
        "model would write just this word without being fed any of it. *Tokens right* is the figure with teacher "
        "forcing. The bits a word include those between words: spaces, line ends, marks "
        "of spacing; `<unk>` is never right.",
        "",
        *table(header, rows),
        "Bits by position inside the word, given the true tokens before (the last column: that position and "
        "later ones):",
        "",
        *table(["tokenization", "model", *(str(number + 1) for number in range(deepest))], detail),
        "![bits by position](positions.png)",
        "",
    ]


def _attacked(plan: Plan, results: Results):
    return ((name, model, found["attack"]) for name, model, found in _each(plan, results) if "attack" in found)


def _resegmented(plan: Plan, results: Results) -> List[str]:
    rows = []
    for name, model, found in _attacked(plan, results):
        canonical = found["resegmented"][0]
        for row in found["resegmented"]:
            change = row["bits_per_word"] - canonical["bits_per_word"]
            rows.append(
                [
                    *(name, MODELS[model], row["segmentation"], f"{row['tokens']:,}", f"{row['bits_per_word']:.3f}"),
                    *(signed(change, 3), f"{row['token_perplexity']:.2f}"),
                ]
            )
    size = next(found["bytes"] for _, _, found in _attacked(plan, results))
    header = ["tokenization", "model", "segmentation", "tokens", "bits per word", "change", "perplexity per token"]
    return [
        "## The attack",
        "",
        f"### The same text in other segmentations (the first {size:,} bytes of the test text)",
        "",
        "All of them are valid: they decode to the same bytes. `best number k` takes the k-th best segmentation "
        "of every word (the last where there are fewer). Bytes have one: the control.",
        "",
        *table(header, rows),
    ]


def _summed(plan: Plan, results: Results) -> List[str]:
    rows, sizes = [], []
    for name, model, found in _attacked(plan, results):
        summed = found["summed"]
        sizes = list(summed["bits_per_word"])
        bits = [summed["bits_per_word"][size] for size in sizes]
        unscored = 1 - 2 ** (bits[-1] - bits[0])
        rows.append(
            [
                *(name, MODELS[model], f"{summed['words']:,}", f"{summed['segmentations_per_word']:.1f}"),
                *(f"{value:.3f}" for value in bits),
                *(f"{bits[0] - bits[-1]:.3f}", percent(unscored)),
            ]
        )
    header = ["tokenization", "model", "words", "segmentations a word", *(f"n = {size}" for size in sizes)]
    return [
        "### The sum over segmentations",
        "",
        "Bits per word when the n best segmentations of each word are summed, n = 1 being the canonical one "
        "alone, with the true text in its canonical segmentation before it. What the sum gains is probability "
        "that the model spends on segmentations nobody scores (last column: its share of the summed probability, "
        "geometric mean over words).",
        "",
        *table([*header, "gained", "unscored"], rows),
    ]


def _searched(plan: Plan, results: Results) -> List[str]:
    rows = []
    for name, model, found in _attacked(plan, results):
        canonical = found["searched"][0]
        for row in found["searched"]:
            moved = row["token_perplexity"] / canonical["token_perplexity"] - 1
            rows.append(
                [
                    *(name, MODELS[model], row["segmentation"], f"{row['tokens']:,}", f"{row['token_perplexity']:.2f}"),
                    *(signed(100 * moved, 1) + " %", f"{row['bits_per_word']:.3f}"),
                    signed(row["bits_per_word"] - canonical["bits_per_word"], 3),
                ]
            )
    header = [
        "tokenization",
        "model",
        "segmentation",
        "tokens",
        "perplexity per token",
        "moved",
        "bits per word",
        "change",
    ]
    return [
        "### The segmentation that makes the text look easiest",
        "",
        "A greedy search from left to right over each word's 16 best segmentations. `easiest looking` takes the "
        "one that leaves the lowest perplexity per token so far; `likeliest` the one that costs the fewest bits. "
        "The text is the same in every row.",
        "",
        *table(header, rows),
        "![sum over segmentations, and the search](segmentations.png)",
        "",
    ]


def _appendix(plan: Plan, folder: Folder, results: Results) -> List[str]:
    packages = ["torch", "numpy", "sentencepiece", "sacremoses", "matplotlib"]
    names = [*packages, "fairseq-fixed", "fairseq"]
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    versions = ", ".join(f"{name} {version}" for name, version in found.items())
    lines = [
        "## Commands and versions",
        "",
        f"Python {platform.python_version()}, {versions}; CPU, one core a run.",
        "",
    ]
    out = os.path.abspath(folder.out)
    for name, model, steps in _each(plan, results):
        training = steps["training"]
        command = " ".join(_quoted(part) for part in training["command"])
        command = command.replace(str(USER_DIR), "fairseq_sharnn").replace(out, f"results/{os.path.basename(out)}")
        lines.append(
            f"- {name}, {MODELS[model]} ({training['updates']:,} updates, {training['seconds']:,.0f} s): `{command}`"
        )
    return [*lines, ""]


def _quoted(part: str) -> str:
    return f"'{part}'" if " " in part or "(" in part else part
