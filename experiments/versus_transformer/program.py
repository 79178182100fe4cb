"""SHA-RNN compared with Transformers and fairseq's LSTM: equal parameters, equal tuning, equal budget.

    scripts/compare_transformer.py DATA --out results/NAME --preset cpu --seeds 1,2,3 --long-minutes 30

Trains and evaluates through fairseq-train and fairseq-eval-lm, and writes REPORT.md, results.json, results.csv and plots
into the output folder. To resume an interrupted comparison, run the same command again: what is finished is not repeated.
How the comparison is made fair: docs/comparison.md.
"""

from typing import Dict

from experiments.comparison.preset_options import MODEL_OPTIONS, OPTIONS
from experiments.comparison.presets import Preset
from experiments.comparison.program import Program, Stage, run
from experiments.comparison.splits import Split
from experiments.comparison.stages import GENERATING, measure_generation
from experiments.harness.progress import Steps
from experiments.versus_transformer.lineup import contestants
from experiments.versus_transformer.text import report_text
from fairseq_sharnn.errors import exit_with_one_line


def estimate(preset: Preset, contestants: int, splits: Dict[str, Split]) -> Steps:
    """Steps of timing generation, one for each contestant: a start, and some bytes."""
    return Steps(contestants, 17.0, preset.timed_jobs)


PROGRAM = Program(
    script="compare_transformer.py",
    description=__doc__,
    contestants=contestants,
    stage=Stage(GENERATING, estimate, measure_generation),
    text=report_text,
    options=(*OPTIONS, *MODEL_OPTIONS),
)


@exit_with_one_line()
def main() -> None:
    run(PROGRAM)
