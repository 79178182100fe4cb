"""Records are read back as they were written, also by a later version."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

import pytest

from experiments.harness.records import read_record, write_record
from fairseq_sharnn.errors import UsageError


@dataclass(frozen=True)
class Inner:
    name: str
    values: Tuple[int, ...] = ()


@dataclass
class Outer:
    first: Inner
    maybe: Optional[Inner] = None
    several: List[Inner] = field(default_factory=list)
    by_name: Dict[str, float] = field(default_factory=dict)


def test_what_was_written_is_read(tmp_path):
    record = Outer(Inner("a", (1, 2)), Inner("b"), [Inner("c"), Inner("d", (3,))], {"x": 0.5})
    write_record(tmp_path / "folder" / "record.json", record)
    assert read_record(Outer, tmp_path / "folder" / "record.json") == record
    write_record(tmp_path / "record.json", Outer(Inner("a")))
    assert read_record(Outer, tmp_path / "record.json") == Outer(Inner("a"))
    assert read_record(Outer, tmp_path / "none.json") is None


def test_a_record_of_another_version(tmp_path):
    """What is missing has its default, what is unknown is ignored, and what cannot be done without is one line."""
    path = tmp_path / "record.json"
    path.write_text('{"first": {"name": "a", "colour": "red"}, "size": 3}')
    assert read_record(Outer, path) == Outer(Inner("a"))
    for text in ('{"several": []}', '{"first": {"values": [1]}}', "[1, 2]"):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"record.json is no Outer \(.*\): delete it"):
            read_record(Outer, path)
