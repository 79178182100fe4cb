"""What the logs show beside fairseq's loss."""

import math
from typing import Dict, List

from fairseq import utils

try:
    from fairseq.logging import metrics
except ImportError:  # pragma: no cover - older layouts
    from fairseq import metrics


def log_bits_per_byte(logging_outputs: List[Dict]) -> None:
    """Log `bpb`, the mean cross-entropy in bits per target, from a criterion's sums in nats.

    Criterions that smooth their loss report the plain one as `nll_loss`. `ntokens` is what the task makes it: the number of
    scored bytes (`sample_size` is the number of lanes under --sentence-avg).
    """
    total = sum(utils.item(log.get("nll_loss", log.get("loss", 0))) for log in logging_outputs)
    count = sum(utils.item(log.get("ntokens", 0)) for log in logging_outputs)
    if count > 0:
        metrics.log_scalar("bpb", total / count / math.log(2), int(count), priority=5, round=4)
