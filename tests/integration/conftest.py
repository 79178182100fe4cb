"""The trained micro model, opened in Python."""

import pytest

from fairseq_sharnn import load


@pytest.fixture(scope="module")
def hub(trained):
    """By `from_pretrained`, with fairseq."""
    from fairseq_sharnn.models.sha_rnn import SHARNNLanguageModel

    return SHARNNLanguageModel.from_pretrained(trained[0], "checkpoint_last.pt", trained[0])


@pytest.fixture(scope="module")
def portable(trained):
    """By `load`, without fairseq."""
    return load(trained[0] / "checkpoint_last.pt")
