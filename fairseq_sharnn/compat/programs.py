"""What happens around the `main` of a fairseq command line, in whichever process runs it."""

import os
import sys
from typing import Any, Callable, Optional

from fairseq_sharnn.compat.gpu import check_cards
from fairseq_sharnn.compat.option_checks import BYTES, TOKENS
from fairseq_sharnn.compat.save_folder import only_writer_of
from fairseq_sharnn.errors import usage_errors_in_one_line
from fairseq_sharnn.evaluation.dynamic import settings_of

INTERRUPTED = 130  # exit code of a program that Ctrl-C ended: 128 + SIGINT


def name_of(main: Callable[..., Any]) -> str:
    """The command line that a `main` belongs to, such as "train" or "eval_lm"; also when it was started as a file."""
    module: str = main.__module__
    if module == "__main__":
        return os.path.splitext(os.path.basename(main.__code__.co_filename))[0]
    return module.rpartition(".")[2]


class Program:
    """A `main` of fairseq that ends in one line: for a UsageError, and for Ctrl-C. Pickled to workers that fairseq spawns.

    Training locks its --save-dir. fairseq-eval-lm prints its result on stdout, where fairseq only logs to stderr.
    """

    def __init__(self, main: Callable[..., Any]):
        self.main = main
        self.name = name_of(main)

    def __call__(self, cfg: Any, **kwargs: Any) -> Any:
        with usage_errors_in_one_line():
            try:
                if not cfg.common.cpu:
                    check_cards()
                if self.name != "train":
                    result = self.main(cfg, **kwargs)
                else:
                    writes = cfg.distributed_training.distributed_rank in (0, None) and not cfg.checkpoint.no_save
                    with only_writer_of(cfg.checkpoint.save_dir if writes else None):
                        result = self.main(cfg, **kwargs)
            except KeyboardInterrupt as interrupt:
                if cfg.distributed_training.distributed_rank in (0, None):
                    print(_where_it_stopped(cfg, self.name, interrupt), file=sys.stderr, flush=True)
                raise SystemExit(INTERRUPTED) from None
        if self.name == "eval_lm" and isinstance(result, dict) and "loss" in result:
            print(_result_line(cfg, result), flush=True)
        return result


def _where_it_stopped(cfg: Any, name: str, interrupt: KeyboardInterrupt) -> str:
    """One line: after which update training was interrupted, and from which checkpoint the same command resumes."""
    if name != "train":
        return "interrupted"
    trainer = _trainer_in(interrupt)
    stopped = "before the first update" if trainer is None else f"after update {trainer.get_num_updates():,}"
    options = cfg.checkpoint
    path = options.restore_file
    if path == "checkpoint_last.pt":
        path = os.path.join(options.save_dir, path)
    if os.path.exists(path):
        return f"interrupted {stopped}: the same command resumes from {path}"
    return f"interrupted {stopped}: there is no {path} yet, so the same command starts from the beginning"


def _trainer_in(interrupt: KeyboardInterrupt) -> Optional[Any]:
    """fairseq's trainer, which its `main` holds as a variable."""
    traceback = interrupt.__traceback__
    while traceback is not None:
        trainer = traceback.tb_frame.f_locals.get("trainer")
        if hasattr(trainer, "get_num_updates"):
            return trainer
        traceback = traceback.tb_next
    return None


def _result_line(cfg: Any, result: Any) -> str:
    unit = {BYTES: "byte", TOKENS: "token"}.get(str(getattr(cfg.task, "_name", None)), "token")
    return (
        f"{os.path.join(cfg.task.data, cfg.dataset.gen_subset)}: {result['loss']:.4f} bits per {unit}, "
        f"perplexity {result['perplexity']:.2f}, {settings_of(cfg.task)}"
    )
