import pytest

from experiments.comparison.splits import read_splits
from fairseq_sharnn.errors import UsageError
from tests.conftest import write_corpus


def test_splits_are_described_or_refused(tmp_path):
    folder = write_corpus(tmp_path / "data", 2000, 100, 150)
    found = read_splits(str(folder))
    assert [found[split].bytes for split in ("train", "valid", "test")] == [2000, 100, 150]
    assert len({split.sha256 for split in found.values()}) == 3
    (folder / "valid").write_bytes(b"")
    with pytest.raises(UsageError, match="valid is empty"):
        read_splits(str(folder))
    (folder / "test").unlink()
    (folder / "valid").write_bytes(b"x")
    with pytest.raises(UsageError, match="has no file named test"):
        read_splits(str(folder))
    with pytest.raises(UsageError, match=r"DATA folder .* does not exist"):
        read_splits(str(tmp_path / "gone"))
