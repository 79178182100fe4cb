"""What the patches in compat change, where no other test stands for it."""

import os
import pickle
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.registration import register
from tests.conftest import ROOT, eval_lm, run_command
from tests.integration.checkpoints import load

register()


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_loading_never_runs_code_from_the_file(tmp_path, trained):
    state = load(trained[0] / "checkpoint_last.pt")
    state["extra_state"]["surprise"] = Bomb(tmp_path / "harm")
    torch.save(state, tmp_path / "bomb.pt")
    with pytest.raises(UsageError, match="cannot load checkpoint"):
        checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "bomb.pt"))
    assert not (tmp_path / "harm").exists()
    with open(tmp_path / "plain.pkl", "wb") as file:
        pickle.dump({"model": Bomb(tmp_path / "harm")}, file)
    with pytest.raises(UsageError, match="cannot load checkpoint"):
        checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "plain.pkl"))
    assert not (tmp_path / "harm").exists()
    assert torch.load.__module__ == "torch.serialization", "torch's own loader is left as it was"


def test_an_altered_tensor_is_noticed(tmp_path, trained):
    """torch.load takes flipped bytes without a word."""
    content = bytearray((trained[0] / "checkpoint_last.pt").read_bytes())
    with zipfile.ZipFile(trained[0] / "checkpoint_last.pt") as container:
        largest = max(container.infolist(), key=lambda entry: entry.file_size)
    place = largest.header_offset + len(largest.filename) + 200
    content[place] ^= 1
    (tmp_path / "altered.pt").write_bytes(bytes(content))
    with pytest.raises(UsageError, match=r"the checksum of .* is wrong"):
        checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "altered.pt"))


def test_copies_take_their_name_when_they_are_complete(tmp_path, monkeypatch):
    source, target = tmp_path / "a.pt", tmp_path / "checkpoint_last.pt"
    source.write_bytes(b"new" * 1000)
    target.write_bytes(b"old")

    def torn(src, dst):
        with open(dst, "wb") as file:
            file.write(b"new")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", torn)
        with pytest.raises(UsageError, match=r"cannot write checkpoint .*checkpoint_last.pt: No space left on device"):
            PathManager.copy(str(source), str(target), overwrite=True)
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) in (
        ["a.pt", "checkpoint_last.pt"],
        ["checkpoint_last.pt", "a.pt"],
    )
    assert PathManager.copy(str(source), str(target), overwrite=True)
    assert target.read_bytes() == source.read_bytes()


def test_the_old_name_never_holds_a_part(tmp_path, monkeypatch):
    """At the moment the name changes, the new content is already whole."""
    target = tmp_path / "checkpoint_last.pt"
    torch.save({"x": 1}, target)
    seen = []
    replace = os.replace

    def watching(src, dst):
        seen.append(torch.load(src)["x"])
        replace(src, dst)

    monkeypatch.setattr(os, "replace", watching)
    checkpoint_utils.torch_persistent_save({"x": 2}, str(target))
    assert seen == [2] and torch.load(target)["x"] == 2


def test_averaged_checkpoints_are_evaluated(tmp_path, trained, corpus):
    script = ROOT / "scripts" / "average_checkpoints.py"
    first = load(trained[0] / "checkpoint_last.pt")
    second = {**first, "model": {name: tensor + 1 for name, tensor in first["model"].items()}}
    for epoch, state in ((1, first), (2, second), (3, second)):
        torch.save(state, tmp_path / f"checkpoint{epoch}.pt")
    finished = run_command(
        *(sys.executable, script, "--inputs", tmp_path, "--num-epoch-checkpoints", 2, "--checkpoint-upper-bound", 2),
        *("--output", tmp_path / "average.pt"),
    )
    assert finished.code == 0, finished.output
    averaged = load(tmp_path / "average.pt")
    for name, tensor in first["model"].items():
        torch.testing.assert_close(averaged["model"][name], tensor + 0.5)
    assert "stream" not in averaged["extra_state"]["train_iterator"]
    scored = eval_lm(corpus, tmp_path / "average.pt", "--tokens-per-sample", 32)
    assert scored.code == 0 and "Evaluated 2,001 tokens" in scored.output
    missing = run_command(
        *(sys.executable, script, "--inputs", tmp_path, "--num-epoch-checkpoints", 9, "--output", tmp_path / "no.pt")
    )
    assert missing.code == 1 and "has 3 checkpoints of the kind asked for, fewer than 9" in missing.output
    assert not (tmp_path / "no.pt").exists() and "Traceback" not in missing.output


def test_modules_need_only_torch(tmp_path):
    """Without fairseq the package still imports, and its modules and optimizer work."""
    code = (
        "import sys; sys.modules['fairseq'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'fairseq' else find(name, *a)\n"
        "from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNSizes\n"
        "from fairseq_sharnn.optim.lamb import LambMinTrust\n"
        "import torch\n"
        "model = SHARNN(SHARNNSizes(20, 8, 16, 2, (0,)))\n"
        "optimizer = LambMinTrust(model.parameters())\n"
        "features, state = model(torch.zeros(4, 2, dtype=torch.long))\n"
        "model.logits(features).sum().backward(); optimizer.step(); print('works')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "works", done.stderr
