"""The paper's claims, one factor at a time: SHA-RNN with one thing changed in each variant.

    scripts/ablate.py DATA --out results/NAME --preset cpu --seeds 1,2

Variants: number and place of heads; minimum-trust LAMB, LAMB and Adam (with a plot of the trust ratios of every tensor);
over-parameterised and plain static vectors; Boom and a full feed-forward layer; dropout. Then one trained model is
evaluated with context lengths from 256 bytes to 64 k. Output and options are those of compare_transformer.py, without
--window and --optimizer.
"""

from typing import Dict

from experiments.ablations.context import CONTEXT, context_lengths, measure_context
from experiments.ablations.text import report_text
from experiments.ablations.variants import variants
from experiments.comparison.presets import Preset
from experiments.comparison.program import Program, Stage, run
from experiments.comparison.splits import Split
from experiments.harness.progress import Steps
from fairseq_sharnn.errors import exit_with_one_line


def estimate(preset: Preset, contestants: int, splits: Dict[str, Split]) -> Steps:
    """Steps of evaluating other context lengths. They are slow, because there is one lane only."""
    return Steps(len(context_lengths(preset, splits["test"].bytes)), 60.0, 1)


PROGRAM = Program(
    script="ablate.py",
    description=__doc__,
    contestants=variants,
    stage=Stage(CONTEXT, estimate, measure_context),
    text=report_text,
    ignored=("window",),
)


@exit_with_one_line()
def main() -> None:
    run(PROGRAM)
