"""`--user-dir experiments/fairseq_plugin`: what the comparison adds to fairseq, on top of `fairseq_sharnn`.

| module | what it adds |
| --- | --- |
| `transformer_xl` | the model `transformer_xl`, a Transformer with memory |
| `processor_clock` | with `TRAINING_CLOCK=processor`, `--stop-time-hours` counts CPU time |

Importing this package registers everything with fairseq.
"""

from experiments.fairseq_plugin import processor_clock, transformer_xl
from fairseq_sharnn.registration import register

__all__ = ["processor_clock", "transformer_xl"]

register()
processor_clock.count_processor_time()
