"""SHA-RNN for fairseq: `--user-dir fairseq_sharnn` registers the model, the optimizer and the tasks.

`fairseq_sharnn.modules` and `fairseq_sharnn.optim.lamb` need torch alone and can be used without fairseq.
"""

import importlib.util

if importlib.util.find_spec("fairseq") is not None:
    from fairseq_sharnn import compat

    compat.apply()

    import fairseq_sharnn.models.sha_rnn
    import fairseq_sharnn.optim.lamb_min_trust
    import fairseq_sharnn.tasks.byte_level_lm
    import fairseq_sharnn.tasks.streaming_lm  # noqa: F401
