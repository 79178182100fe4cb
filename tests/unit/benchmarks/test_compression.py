"""What `benchmarks.compression` runs and writes; never how fast anything is."""

import shutil

import pytest

from benchmarks import compression
from benchmarks.compression import GENERAL, Method, Result, measure, own_methods, rows
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.portable.command_line import make_parser
from tests.conftest import real_text


def test_a_row_has_sizes_with_and_without_the_model():
    method = own_methods("work/model", "--lanes 8", "--dynamic-lr 0.0005")[1]
    assert rows([Result(method, 250, 2.0, 4.0, 1.9)], 1000, 750) == [
        ["compress, dynamic", "250", "2.0000", "1.9000", "1,000", "8.0000", "500", "250"]
    ]
    assert rows([Result(GENERAL[0], 250, 2.0, 4.0, None)], 1000, 750)[0][3:6] == ["–", "250", "2.0000"]


def test_its_own_commands_are_those_of_the_command_line():
    """`score` reads as many lanes as `compress`, and learns alike."""
    for method in own_methods("work/model", "--lanes 6", "--dynamic-lr 0.0005"):
        parsed = [
            make_parser().parse_args(line.format(file="FILE", out="OUT", back="BACK").split()[3:])
            for line in (method.pack, method.unpack, method.score)
        ]
        assert [options.command for options in parsed] == ["compress", "decompress", "score"]
        assert parsed[0].lanes == parsed[2].lanes == 6 and parsed[0].dynamic_lr == parsed[2].dynamic_lr


@pytest.mark.parametrize("method", GENERAL, ids=lambda method: method.name)
def test_general_compressors_give_the_file_back(method, tmp_path):
    if shutil.which(method.name) is None:
        pytest.skip(f"{method.name} is not installed")
    (tmp_path / "a text").write_bytes(real_text(5000))
    assert 0 < measure(method, tmp_path / "a text").size < 5000


def test_a_command_that_fails_or_loses_bytes(tmp_path):
    (tmp_path / "text").write_bytes(b"text")
    with pytest.raises(UsageError, match="exit code 3"):
        measure(Method("bad", "exit 3", "true"), tmp_path / "text")
    with pytest.raises(UsageError, match="does not give"):
        measure(Method("bad", "cp {file} {out}", "head -c 2 {out} >{back}"), tmp_path / "text")
    with pytest.raises(SystemExit, match="missing or empty"):
        compression.main([str(tmp_path / "nowhere"), "--model", "x"])
