"""One budget in every tokenization: chunks that cover the same text, and the same passes over it."""

from experiments.tokenization.plan import Plan
from experiments.tokenization.records import Manifest


def chunk_tokens(plan: Plan, manifest: Manifest) -> int:
    """Tokens that cover `plan.window` bytes of the training text."""
    train = manifest.splits["train"]
    return max(4, round(plan.window * train.tokens / train.bytes))


def update_count(plan: Plan, manifest: Manifest) -> int:
    """Updates of `plan.passes` passes over the training text: about the same number for every tokenization."""
    return max(2, int(plan.passes * manifest.splits["train"].tokens / (chunk_tokens(plan, manifest) * plan.lanes)))
