"""The error a user sees: one line, exit code 1, no traceback."""


class UsageError(SystemExit):
    """Something the user can put right: its one-line message names the option or path and says what to do.

    It derives from SystemExit because that is the one exception that fairseq's command lines (train, hydra-train,
    eval-lm, validate) let through as a plain line; any other prints a traceback.
    """

    def __init__(self, message: str):
        super().__init__(f"error: {' '.join(message.split())}")
