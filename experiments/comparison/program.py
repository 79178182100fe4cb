"""What compare_transformer.py and ablate.py share: options, the order of the stages, and endings in one line."""

import argparse
import logging
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from experiments.comparison import results, stages
from experiments.comparison.comparison import Comparison
from experiments.comparison.contestant import Contestant
from experiments.comparison.device import check_device, device_in_words
from experiments.comparison.methods import evaluate_methods
from experiments.comparison.plan import EVALUATING_LONGER, announcement, planned
from experiments.comparison.preset_options import OPTIONS, PresetOption, choose, with_charge
from experiments.comparison.presets import ALL_METHODS, PRESETS, Preset
from experiments.comparison.report import ReportText, render
from experiments.comparison.report_plots import draw_all
from experiments.comparison.splits import Split, read_splits
from experiments.harness import machine
from experiments.harness.folder import Claim, known_configuration, write_text
from experiments.harness.markdown import number
from experiments.harness.memory import own_peak_memory
from experiments.harness.plots import check_matplotlib
from experiments.harness.processes import as_typed, check_fairseq
from experiments.harness.progress import Progress, Steps, duration
from experiments.harness.runner import Runner
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.registration import register


@dataclass(frozen=True)
class Stage:
    """A stage that only one program has: its kind of steps, an estimate of them, and the work."""

    kind: str
    estimate: Callable[[Preset, int, Dict[str, Split]], Steps]
    run: Callable[[Comparison], None]


@dataclass(frozen=True)
class Program:
    """One of the two programs.

    script: its file name. description: for --help. contestants: who takes part. stage: its own, after the evaluations.
    text: what its report says besides figures. options: those that change a preset. ignored: settings of a preset that
    have no effect, so that they are no part of an output folder's configuration.
    """

    script: str
    description: str
    contestants: Callable[[Preset], List[Contestant]]
    stage: Stage
    text: Callable[[results.Results], ReportText]
    options: Sequence[PresetOption] = OPTIONS
    ignored: Sequence[str] = ()

    def parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(
            description=self.description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument(
            "data",
            metavar="DATA",
            help="folder with the files train, valid and test (scripts/prepare_corpus.py makes one)",
        )
        parser.add_argument("--out", required=True, help="output folder; an interrupted comparison resumes there")
        parser.add_argument("--preset", default="cpu", help=f"{', '.join(PRESETS)} (default: cpu)")
        parser.add_argument("--only", help="names of contestants, such as sha_rnn,lstm_lm: leave out the others")
        for option in self.options:
            option.add_to(parser)
        return parser


def only(contestants: Sequence[Contestant], names: Optional[str]) -> List[Contestant]:
    """Those that `--only` names, and those whose tuning they share; for None, all that need not be named.

    Raises UsageError for an unknown name.
    """
    if names is None:
        return [contestant for contestant in contestants if not contestant.by_name_only]
    known = {contestant.name: contestant for contestant in contestants}
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise UsageError(f"--only {name} is not one of {', '.join(known)}")
    wanted += [owner for owner in (known[name].tuned_as for name in wanted) if owner is not None]
    return [contestant for contestant in contestants if contestant.name in wanted]


def taking_part(
    contestants: Sequence[Contestant], names: Optional[str], known: Optional[Dict[str, Any]], say: Callable[[str], None]
) -> List[Contestant]:
    """Who takes part. known: the configuration of the output folder, None for a new one. say: prints a line.

    Without `--only`, a folder of an earlier version keeps its own lineup, and a contestant whose package is not installed
    is left out, which is said. Raises UsageError if `--only` names a contestant whose package is not installed.
    """
    chosen = only(contestants, names)
    if names is None and known is not None:
        chosen = [item for item in chosen if not item.late or item.name in known.get("contestants", {})]
    for contestant in [item for item in chosen if item.missing]:
        package = f"the package {contestant.missing}: pip install 'fairseq-sharnn[experiments]'"
        if names is not None:
            raise UsageError(f"--only {contestant.name} needs {package}")
        say(f"comparison: {contestant.name} takes no part, because it needs {package}")
        chosen.remove(contestant)
    return chosen


def check_more_seeds(preset: Preset, contestants: Sequence[Contestant]) -> None:
    """Raises UsageError if `--more-seeds` names a contestant that does not exist."""
    known = [contestant.name for contestant in contestants]
    for name, _ in preset.more_seeds:
        if name not in known:
            raise UsageError(f"--more-seeds {name} is not one of {', '.join(known)}")


def in_configuration(
    contestants: Sequence[Contestant], chosen: Sequence[Contestant], known: Optional[Dict[str, Any]]
) -> List[Contestant]:
    """The contestants that are part of an output folder's configuration: all of them, except late ones.

    Of those a folder has the ones that it began with, so that later ones may join it.
    """

    def belongs(contestant: Contestant) -> bool:
        if known is not None:
            return contestant.name in known.get("contestants", {})
        return not contestant.by_name_only or contestant in chosen

    return [contestant for contestant in contestants if not contestant.late or belongs(contestant)]


def run(program: Program) -> None:
    """Do a whole comparison in the output folder that the command line names, and write its report after every stage.

    Raises UsageError. On Ctrl-C every process is ended, and what is done stays.
    """
    begun = time.time()
    args = program.parser().parse_args()
    logging.disable(logging.INFO)
    register()
    idle_memory = own_peak_memory()
    out = Path(args.out)
    known = known_configuration(out)
    preset = with_charge(choose(args.preset, program.options, **vars(args)), args.budget, known)
    everyone = program.contestants(preset)
    chosen = taking_part(everyone, args.only, known, print)
    check_more_seeds(preset, everyone)
    splits = read_splits(args.data)
    check_device(preset)
    check_matplotlib()
    check_fairseq()
    claim = Claim(out, _identity(program, preset, splits, in_configuration(everyone, chosen, known)))
    comparison = _comparison(program, args, preset, chosen, splits)
    setting = results.Setting(
        script=program.script,
        command=as_typed([sys.executable, *sys.argv]).partition(" ")[2],
        preset=preset,
        data=splits,
        machine=machine.describe(),
        device=device_in_words(preset),
        idle_memory=idle_memory,
    )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _begin(comparison, claim)
        found = _complete(program, comparison, setting)
    except KeyboardInterrupt:
        raise UsageError("interrupted; what is finished stays: run the same command again to resume") from None
    except OSError as error:
        where = error.filename or out
        raise UsageError(
            f"cannot write {where}: {error.strerror or error}; then run the same command again to resume"
        ) from None
    finally:
        comparison.runner.stop()
        claim.close()
    _say_outcome(comparison, found, time.time() - begun)


def _identity(
    program: Program, preset: Preset, splits: Dict[str, Split], contestants: Sequence[Contestant]
) -> Dict[str, Any]:
    """What must be equal for an output folder to be used again."""
    return {
        "script": program.script,
        "preset": {name: value for name, value in preset.identity().items() if name not in program.ignored},
        "data": {name: asdict(split) for name, split in splits.items()},
        "contestants": {contestant.name: contestant.identity() for contestant in contestants},
    }


def _comparison(
    program: Program, args: argparse.Namespace, preset: Preset, chosen: List[Contestant], splits: Dict[str, Split]
) -> Comparison:
    extra = {program.stage.kind: program.stage.estimate(preset, len(chosen), splits)}
    bytes_of = {name: split.bytes for name, split in splits.items()}
    progress = Progress("comparison", planned(preset, chosen, bytes_of, extra))
    comparison = Comparison(Path(args.data), Path(args.out), preset, chosen, splits, Runner(progress))
    stages.count_trained_slices(comparison)
    return comparison


def _begin(comparison: Comparison, claim: Claim) -> None:
    """Sizes and speeds. Removes the output folder if one of them shows that the comparison cannot be made."""
    say = comparison.runner.progress.say
    try:
        stages.find_all_sizes(comparison)
        say(announcement(comparison.preset, comparison.contestants, comparison.runner.progress.steps))
        for name, size in comparison.sizes.items():
            say(f"  {name}: {size.parameters:,} parameters ({' '.join(size.options)})")
        stages.measure_pace(comparison)
    except UsageError:
        claim.withdraw()
        raise


def _complete(program: Program, comparison: Comparison, setting: results.Setting) -> results.Results:
    """All other stages. Writes the report after each."""

    def save(complete: bool = False) -> results.Results:
        found = results.collect(comparison, setting, complete)
        results.write(comparison.out, found)
        write_text(comparison.out / "REPORT.md", render(found, program.text(found), draw_all(comparison.out, found)))
        return found

    stages.tune(comparison)
    for name, trial in comparison.chosen.items():
        comparison.runner.progress.say(f"  {name}: {trial}")
    stages.train_seeds(comparison)
    save()
    stages.evaluate_runs(comparison, comparison.runs)
    save()
    if comparison.preset.methods == ALL_METHODS:
        evaluate_methods(comparison)
        save()
    program.stage.run(comparison)
    comparison.runner.progress.close(program.stage.kind)
    save()
    stages.train_long(comparison)
    if comparison.long_runs:
        stages.evaluate_runs(comparison, comparison.long_runs, EVALUATING_LONGER)
    return save(complete=True)


def _say_outcome(comparison: Comparison, found: results.Results, seconds: float) -> None:
    say = comparison.runner.progress.say
    say(f"comparison: done in {duration(seconds)}; {comparison.out / 'REPORT.md'}")
    for item in found.summaries:
        failed = f"failed: {'; '.join(item.failed)}; " if item.failed else ""
        test = "no result" if item.test_bpb is None else f"{number(item.test_bpb, 4)} bits per byte"
        say(f"  {item.name}: {failed}{test}")


def _interrupt(*unused: Any) -> None:
    raise KeyboardInterrupt
