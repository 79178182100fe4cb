"""Make fairseq know the task, models and optimizers of this package in this process, as --user-dir does in a command."""

import importlib
import logging


def register() -> None:
    """Import the modules that register them; fairseq has no other way."""
    logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)  # it advises a package for speech
    for name in ("models.sha_rnn", "optim.lamb_min_trust", "tasks.byte_level_lm", "tasks.streaming_lm"):
        importlib.import_module(f"fairseq_sharnn.{name}")
