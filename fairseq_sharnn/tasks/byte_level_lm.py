"""`--task byte_level_lm`: language modelling on raw bytes, with state carried through the corpus."""

import math
from dataclasses import dataclass, field
from typing import Dict, List, Optional

from fairseq import utils
from fairseq.logging import metrics
from fairseq.tasks import register_task

from fairseq_sharnn.data.codecs import ByteCodec
from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary
from fairseq_sharnn.data.corpora.bytes import ByteCorpus
from fairseq_sharnn.tasks.streaming import StreamingConfig, StreamingTask


@dataclass
class ByteLevelLMConfig(StreamingConfig):
    data: Optional[str] = field(
        default=None,
        metadata={"help": "folder with one file of raw bytes per split (colon-separated folders: one an epoch)"},
    )
    tokens_per_sample: int = field(
        default=1024, metadata={"help": "bytes in a chunk of truncated BPTT (or in a stateless model's window)"}
    )


@register_task("byte_level_lm", dataclass=ByteLevelLMConfig)
class ByteLevelLMTask(StreamingTask):
    """Raw bytes in, bits per byte out."""

    def __init__(self, cfg: ByteLevelLMConfig, **kwargs):
        super().__init__(cfg, ByteDictionary())

    def open_corpus(self, folder: str, split: str) -> ByteCorpus:
        return ByteCorpus(self.split_file(folder, split))

    @property
    def codec(self) -> ByteCodec:
        return ByteCodec()

    def reduce_metrics(self, logging_outputs, criterion) -> None:
        super().reduce_metrics(logging_outputs, criterion)
        log_bits_per_byte(logging_outputs)


def log_bits_per_byte(logging_outputs: List[Dict]) -> None:
    """Log `bpb`, the mean cross-entropy in bits per target, from a criterion's sums in nats.

    Criterions that smooth their loss report the plain one as `nll_loss`. `ntokens` is what the task makes it: the number of
    scored bytes (`sample_size` is the number of lanes under --sentence-avg).
    """
    total = sum(utils.item(log.get("nll_loss", log.get("loss", 0))) for log in logging_outputs)
    count = sum(utils.item(log.get("ntokens", 0)) for log in logging_outputs)
    if count > 0:
        metrics.log_scalar("bpb", total / count / math.log(2), int(count), priority=5, round=4)
