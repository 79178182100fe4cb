"""What compare_transformer.py and ablate.py share: options, the order of stages, and endings in one line."""

import argparse
import logging
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from experiments.comparison import plots, report, results
from experiments.comparison.contestants import Contestant
from experiments.comparison.experiment import Experiment
from experiments.comparison.presets import PRESETS, Preset, choose
from experiments.comparison.progress import Steps, announcement, duration
from experiments.harness import machine
from experiments.harness.folder import Claim, describe_data, write_text
from experiments.harness.markdown import number
from experiments.harness.processes import fairseq, peak_memory, shown
from fairseq_sharnn.errors import UsageError

# What this process holds when it has imported what the commands import: bytes.
IDLE_MEMORY = peak_memory(os.getpid()) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
    1 if sys.platform == "darwin" else 1024
)


def parser(description: str) -> argparse.ArgumentParser:
    """The options of both scripts."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add(
        "data", metavar="DATA", help="folder with the files train, valid and test (scripts/prepare_corpus.py makes one)"
    )
    add(
        "--out",
        required=True,
        help="folder for everything that is made; a comparison that was interrupted goes on there",
    )
    add("--preset", default="cpu", help=f"{', '.join(PRESETS)} (default: cpu)")
    add("--minutes", type=float, help="budget of each run: minutes of training wall-clock")
    add("--updates", type=int, help="budget of each run: updates, of the same bytes for all")
    add("--trial-minutes", type=float, help="budget of each tuning trial")
    add("--trials", type=int, help="number of tuning trials of each contestant")
    add("--seeds", help="such as 1,2,3; more can be added later")
    add("--long-minutes", type=float, help="afterwards, one run of so many minutes for the best of each kind")
    add("--parameters", type=int, help="the count that all contestants are brought to")
    add("--chunk", type=int, help="bytes in a chunk of SHA-RNN's training; an update has as many bytes as before")
    add("--only", help="names of contestants, such as sha_rnn,lstm_lm: leave the others out")
    add("--jobs", type=int, help="trainings side by side, one thread each (default: the preset's)")
    return made


def preset_of(args: argparse.Namespace) -> Preset:
    """The preset that the options ask for. Raises UsageError."""
    own = {"data", "out", "preset", "only"}
    return choose(args.preset, **{name: value for name, value in vars(args).items() if name not in own})


def only(contestants: Sequence[Contestant], names: Optional[str]) -> List[Contestant]:
    """Those that `--only` names (None: all), with those whose tuning they share. Raises UsageError for an unknown name."""
    if names is None:
        return list(contestants)
    known = {contestant.name: contestant for contestant in contestants}
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise UsageError(f"--only {name} is not one of {', '.join(known)}")
    wanted += [known[name].tuned_as for name in wanted if known[name].tuned_as is not None]
    return [contestant for contestant in contestants if contestant.name in wanted]


# What a script does beside training and evaluating: how many steps it is guessed to be, and the work.
Stage = Tuple[str, Callable[[Preset, int, Dict], Steps], Callable[[Experiment], None]]


def run(
    script: str,
    args: argparse.Namespace,
    contestants_of: Callable[[Preset], Sequence[Contestant]],
    stage: Stage,
    about: Callable[[Experiment], Dict[str, Any]],
    without: Sequence[str] = (),
) -> None:
    """Do a whole comparison in args.out, and write its report after every stage.

    stage: what the script does besides. about: what its report says beside the figures. without: settings of a preset that
    have no part in this script. Raises UsageError; on Ctrl-C every process is ended and what is done stays.
    """
    begun = time.time()
    logging.disable(logging.INFO)
    preset = preset_of(args)
    everyone = contestants_of(preset)
    chosen = only(everyone, args.only)
    splits = describe_data(args.data)
    machine.check_device(preset.name, preset.device)
    plots.check_matplotlib()
    if not Path(fairseq("train")).exists():
        raise UsageError(
            f"there is no fairseq-train beside {sys.executable}: use the Python that fairseq is installed in"
        )
    out = Path(args.out)
    identity = {
        "script": script,
        "preset": {name: value for name, value in preset.identity().items() if name not in without},
        "data": splits,
        "contestants": {contestant.name: contestant.identity() for contestant in everyone},
    }
    kind, guess, work = stage
    claim = Claim(out, identity)
    experiment = Experiment(Path(args.data), out, preset, chosen, splits, {kind: guess(preset, len(chosen), splits)})
    say = experiment.progress.say
    common = {
        "script": script,
        "command": shown([sys.executable, *sys.argv]).partition(" ")[2],
        "machine": machine.describe(),
        "data": splits,
        "prompts": preset.prompts,
        "budget": str(preset.budget),
        "device": machine.device(preset.device),
        "trial": str(preset.trial),
        "idle_memory": IDLE_MEMORY,
    }

    def save(complete: bool) -> Dict[str, Any]:
        status = [] if complete else ["**Not complete yet: the same command goes on.**", ""]
        found = results.collect(experiment, {**common, **about(experiment), "complete": status})
        results.write(out, found)
        write_text(out / "REPORT.md", report.render(found, plots.draw_all(out, found)))
        return found

    signal.signal(signal.SIGTERM, _interrupt)
    try:
        try:
            sizes = experiment.find_sizes()
            say(announcement(preset, chosen, experiment.progress.steps))
            for name, size in sizes.items():
                say(f"  {name}: {size.parameters:,} parameters ({' '.join(size.options)})")
            experiment.measure_pace()
        except UsageError:
            claim.withdraw()
            raise
        experiment.tune()
        for name, trial in experiment.chosen.items():
            say(f"  {name}: {trial}")
        experiment.train_seeds()
        save(False)
        experiment.evaluate(experiment.runs)
        save(False)
        work(experiment)
        experiment.progress.closed(kind)
        save(False)
        experiment.train_long()
        if experiment.long_runs:
            experiment.evaluate(experiment.long_runs, "evaluating longer")
        found = save(True)
    except KeyboardInterrupt:
        raise UsageError("interrupted; what is finished stays, and the same command goes on from here") from None
    except OSError as error:
        where = error.filename or out
        raise UsageError(
            f"cannot write {where}: {error.strerror or error}; the same command goes on from here"
        ) from None
    finally:
        experiment.processes.stop()
        claim.close()
    say(f"comparison: done in {duration(time.time() - begun)}; {out / 'REPORT.md'}")
    for item in found["summaries"]:
        failed = "; ".join(item["failed"])
        test = "no result" if item["test_bpb"] is None else f"{number(item['test_bpb'], 4)} bits per byte"
        say(f"  {item['name']}: {f'failed: {failed}; ' if failed else ''}{test}")


def _interrupt(*unused) -> None:
    raise KeyboardInterrupt


def describe_budget(preset: Preset, others: str = "") -> str:
    """The budget in words, for the report. others: what contestants beside SHA-RNN read in an update."""
    per_update = preset.lanes * preset.chunk
    if preset.budget.updates is not None:
        what = f"{preset.budget} of {per_update:,} bytes each, the same bytes for all"
    else:
        what = f"{preset.budget} of training wall-clock each (validation and start-up are not counted)"
    side = f"{preset.jobs} trainings side by side, one thread each" if preset.jobs > 1 else "one training at a time"
    if "--amp" in preset.device:
        side += (
            "; all in mixed precision by --amp, whose slices resume exactly (fairseq's --fp16 saves no master weights)"
        )
    return (
        f"{what}; {preset.slices} slices that alternate between all runs, each ending with a validation; {side}. Every "
        f"update reads about {per_update:,} bytes: SHA-RNN {preset.lanes} lanes of {preset.chunk}{_fewer_lanes(preset)}"
        f"{others}. The checkpoint with the best validation is tested."
    )


def _fewer_lanes(preset: Preset) -> str:
    if preset.lanes_full is None or preset.budget.updates is not None:
        return ""
    return f" (with a head in every layer {preset.lanes_full}, as in the paper: fewer bytes in an update)"
