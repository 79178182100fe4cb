"""Where a study keeps its files: the report in the output folder, all that it is made of in its folder work/."""

from dataclasses import dataclass
from pathlib import Path

from experiments.tokenization.plan import StudyRun

PLAN = "work/plan.json"
CHECKPOINT = Path("checkpoints", "checkpoint_last.pt")


@dataclass(frozen=True)
class StudyFolder:
    """Paths in the output folder."""

    out: Path

    def raw(self, split: str) -> Path:
        """The text of a split."""
        return self.out / "work" / "raw" / split

    def data(self, tokenization: str) -> Path:
        """The prepared data of a tokenization."""
        return self.out / "work" / "data" / tokenization

    def run(self, run: StudyRun) -> Path:
        """The folder of a run."""
        return self.out / "work" / "runs" / run.name

    def checkpoint(self, run: StudyRun) -> Path:
        """The trained model of a run."""
        return self.run(run) / CHECKPOINT

    def record(self, run: StudyRun, step: str) -> Path:
        """What a step measured on a run."""
        return self.run(run) / f"{step}.json"
