"""`--user-dir experiments/fairseq_plugin`: what the comparison adds to fairseq, on top of `fairseq_sharnn`.

| module | what it adds |
| --- | --- |
| `transformer_xl` | the model `transformer_xl`, a Transformer with memory |

Importing this package registers everything with fairseq.
"""

from experiments.fairseq_plugin import transformer_xl
from fairseq_sharnn.registration import register

__all__ = ["transformer_xl"]

register()
