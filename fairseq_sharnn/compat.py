"""The only place that patches fairseq: each patch with its reason, each with a test that fails without it."""


def apply() -> None:
    """Apply every patch, once a process."""
