import pytest

from experiments.harness.folder import Claim, read_json
from fairseq_sharnn.errors import UsageError

CONFIGURATION = {"script": "x", "preset": {"budget": {"minutes": 6}, "seeds": (1, 2)}, "data": {"train": {"bytes": 3}}}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_folder_is_made_and_used_again(tmp_path):
    out = tmp_path / "a" / "b"
    Claim(out, CONFIGURATION).close()
    before = contents(out)
    Claim(out, CONFIGURATION).close()
    assert contents(out) == before and "config.json" in before


def test_a_comparison_that_cannot_begin_leaves_nothing(tmp_path):
    Claim(tmp_path / "new", CONFIGURATION).withdraw()
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    Claim(tmp_path / "old", CONFIGURATION).withdraw()
    assert list((tmp_path / "old").iterdir()) == []
    Claim(tmp_path / "old", CONFIGURATION).close()
    (tmp_path / "old" / "results.json").write_text("{}")
    Claim(tmp_path / "old", CONFIGURATION).withdraw()  # an earlier call began it
    assert {path.name for path in (tmp_path / "old").iterdir()} == {".lock", "config.json", "results.json"}


def test_what_a_kill_may_leave_is_no_obstacle_and_damage_is_one_line(tmp_path):
    (tmp_path / "config.json.tmp").write_text("{")
    Claim(tmp_path, CONFIGURATION).close()
    (tmp_path / "config.json").write_text('{"script": ')
    with pytest.raises(UsageError, match=r"config.json is damaged: delete it"):
        Claim(tmp_path, CONFIGURATION)
    assert read_json(tmp_path / "none.json") is None


def test_another_configuration_is_refused_and_nothing_overwritten(tmp_path):
    Claim(tmp_path, CONFIGURATION).close()
    before = contents(tmp_path)
    other = {**CONFIGURATION, "preset": {"budget": {"minutes": 7}, "seeds": (1, 2)}}
    with pytest.raises(UsageError, match=r"another configuration \(preset budget minutes: 6 there, 7 asked for\)"):
        Claim(tmp_path, other)
    with pytest.raises(UsageError, match=r"\(data train bytes: 3 there, 4 asked for\)"):
        Claim(tmp_path, {**CONFIGURATION, "data": {"train": {"bytes": 4}}})
    assert contents(tmp_path) == before


def test_what_is_no_comparison_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds something else than a comparison"):
        Claim(tmp_path, CONFIGURATION)
    with pytest.raises(UsageError, match=r"thesis.txt is a file: name a folder"):
        Claim(tmp_path / "thesis.txt", CONFIGURATION)
    assert list(contents(tmp_path)) == ["thesis.txt"]
    (tmp_path / "thesis.txt").rename(tmp_path / "thesis.tmp")
    with pytest.raises(UsageError, match="holds something else than a comparison"):
        Claim(tmp_path, CONFIGURATION)


def test_one_at_a_time(tmp_path):
    lock = Claim(tmp_path, CONFIGURATION)
    with pytest.raises(UsageError, match="is being worked in by another process"):
        Claim(tmp_path, CONFIGURATION)
    lock.close()
    Claim(tmp_path, CONFIGURATION).close()


def test_the_configuration_may_lie_elsewhere_in_the_folder(tmp_path):
    """As the tokenization study has it."""
    configuration = {"text": "a"}
    Claim(tmp_path / "out", configuration, "study", "work/plan.json").close()
    assert read_json(tmp_path / "out" / "work" / "plan.json") == configuration
    with pytest.raises(UsageError, match=r"another configuration \(text: a there, b asked for\)"):
        Claim(tmp_path / "out", {"text": "b"}, "study", "work/plan.json")
    (tmp_path / "notes").write_text("")
    with pytest.raises(UsageError, match="holds something else than a study"):
        Claim(tmp_path, configuration, "study", "work/plan.json")
