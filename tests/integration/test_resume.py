"""A run that is stopped and resumed equals the run that was never stopped."""

import re

import pytest
import torch

from fairseq_sharnn.data.streams.plan import TrainingPlan
from tests.conftest import write_corpus
from tests.integration.checkpoints import differences, load
from tests.integration.forked import eval_forked, train_forked

STEPS = ("--warmup-updates", 3, "--log-interval", 1, "--dropout", 0.1)


def curve(finished):
    """Bits per byte as printed, by update."""
    assert finished.code == 0, finished.output[-3000:]
    found = re.findall(r"train_inner.*?bpb=([\d.]+).*?num_updates=(\d+)", finished.output)
    return {int(update): bits for bits, update in found}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("small"), 3000, 300, 300)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--update-freq", 3),
        ("--no-bptt-jitter", "--attention-layers", "all", "--attention-heads", 2),
        ("--fp16", "--fp16-init-scale", 4),
        ("--memory-efficient-fp16", "--fp16-init-scale", 4),
        ("--bf16",),
        ("--decoder-embed-dim", 20, "--boom-dim", 47, "--dropconnect", 0.2),
        ("--checkpoint-activations",),
    ],
    ids=lambda options: " ".join(map(str, options)) or "plain",
)
def test_resume_is_exact(small, tmp_path, options):
    """Stopped in the first epoch and in the second: same losses, parameters, moments, stream state."""
    last = 12 if "--update-freq" in options else 34  # 24 chunks an epoch
    whole = train_forked(small, tmp_path / "whole", *STEPS, *options, "--max-update", last)
    for stop in (5, last - 3, last):
        broken = train_forked(small, tmp_path / "broken", *STEPS, *options, "--max-update", stop)
        assert broken.code == 0, broken.output[-3000:]
    assert differences(tmp_path / "whole" / "checkpoint_last.pt", tmp_path / "broken" / "checkpoint_last.pt") == []
    resumed = curve(broken)
    assert len(resumed) == 3
    assert {update: bits for update, bits in curve(whole).items() if update in resumed} == resumed


def test_checkpoints_in_mid_epoch_and_at_epoch_ends(small, tmp_path):
    """From every checkpoint that a run leaves, the rest of the run is the same."""
    whole = train_forked(
        *(small, tmp_path / "whole", *STEPS, "--max-epoch", 2, "--max-update", 1000),
        *("--save-interval-updates", 7, "--validate-interval-updates", 7),
    )
    assert whole.code == 0, whole.output[-2000:]
    left = sorted(path.name for path in (tmp_path / "whole").glob("checkpoint*_*.pt"))
    for name in ("checkpoint1.pt", "checkpoint_1_14.pt", "checkpoint_2_28.pt"):
        assert name in [*left, "checkpoint1.pt"]
        (tmp_path / name).mkdir()
        again = train_forked(
            *(small, tmp_path / name, *STEPS, "--max-epoch", 2, "--max-update", 1000),
            *("--restore-file", tmp_path / "whole" / name, "--no-epoch-checkpoints"),
        )
        assert again.code == 0, again.output[-2000:]
        ends = (tmp_path / "whole" / "checkpoint2.pt", tmp_path / name / "checkpoint_last.pt")
        assert differences(*ends) == []


def test_without_stream_state_it_is_rebuilt(small, tmp_path):
    """The rebuilt state is that of the present parameters without dropout: near, not the same; no byte is lost."""
    options = (*STEPS, "--no-save-stream-state", "--dropout", 0)
    whole = train_forked(small, tmp_path / "whole", *options, "--max-update", 16)
    train_forked(small, tmp_path / "broken", *options, "--max-update", 10)
    assert load(tmp_path / "broken" / "checkpoint_last.pt")["extra_state"]["train_iterator"]["stream"]["state"] is None
    again = train_forked(small, tmp_path / "broken", *options, "--max-update", 16)
    assert "the checkpoint holds no stream state: it is rebuilt" in again.output
    expected, resumed = curve(whole), curve(again)
    for update, bits in resumed.items():
        assert float(bits) == pytest.approx(float(expected[update]), abs=0.05)
    sizes = [(tmp_path / name / "checkpoint_last.pt").stat().st_size for name in ("whole", "broken")]
    assert abs(sizes[0] - sizes[1]) < 20000


@pytest.mark.parametrize(
    "options", [("--batch-size", 6), ("--tokens-per-sample", 20), ("--batch-size", 2, "--no-bptt-jitter")]
)
def test_resume_in_other_lanes(small, tmp_path, options):
    """Neither restarted nor skipped: the epoch's updates add up to its bytes; the log says what was done."""
    first = train_forked(small, tmp_path, *STEPS, "--max-update", 10)
    rest = train_forked(small, tmp_path, *STEPS, "--max-epoch", 1, "--max-update", 1000, *options)
    assert rest.code == 0, rest.output[-3000:]
    assert re.search(r"resuming epoch 1 in \d+ lanes of chunks of \d+ bytes \(it was 4 of 32", rest.output)
    assert "rebuilt from the 9" in rest.output
    trained = [sum(float(n) for n in re.findall(r"train_inner.*?wpb=([\d.]+)", run.output)) for run in (first, rest)]
    assert sum(trained) == 3000
    start, resumed = ([float(value) for value in curve(run).values()][:3] for run in (first, rest))
    assert max(resumed) < min(start) - 1, "it starts from the trained parameters"


def test_corpus_that_changed_in_mid_epoch(small, tmp_path):
    data = write_corpus(tmp_path / "data", 3000, 300, 300)
    train_forked(data, tmp_path / "out", *STEPS, "--max-update", 5)
    (data / "train").write_bytes((data / "train").read_bytes()[:2500])
    refused = train_forked(data, tmp_path / "out", *STEPS, "--max-update", 9)
    assert refused.code == 1 and "Traceback" not in refused.output
    assert "(3,000 bytes then, 2,500 now)" in refused.line("error:")
    anew = train_forked(data, tmp_path / "out", *STEPS, "--max-update", 9, "--reset-dataloader")
    assert anew.code == 0, anew.output[-2000:]


def ruin_the_seventh_chunk() -> None:
    from fairseq_sharnn.models.sha_rnn import SHARNNDecoder

    forward = SHARNNDecoder.forward

    def failing(self, tokens, stream=None, **kwargs):
        logits, extra = forward(self, tokens, stream=stream, **kwargs)
        if self.training and stream is not None and stream.index == 7:
            logits = logits * float("nan")
        return logits, extra

    SHARNNDecoder.forward = failing


def test_update_with_nan_stops_with_its_place(small, tmp_path):
    options = ("--max-update", 20, "--save-interval-updates", 3)
    bad = train_forked(small, tmp_path, *STEPS, *options, before=ruin_the_seventh_chunk)
    assert bad.code == 1 and "Traceback" not in bad.output
    error = bad.line("error:")
    assert re.search(r"update 8 \(chunk 8 of the epoch, its first lane at byte \d+\): gradients are Nan/Inf", error)
    assert load(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 6
    scored = eval_forked(small, tmp_path / "checkpoint_last.pt", "--tokens-per-sample", 32)
    assert "Evaluated 300 tokens" in scored.output
    assert float(re.search(r"Loss \(base 2\): ([\d.]+)", scored.output).group(1)) < 8
    again = train_forked(small, tmp_path, *STEPS, "--max-update", 9)
    assert list(curve(again)) == [7, 8, 9]


def test_ruined_parameters_replace_no_checkpoint(small, tmp_path):
    options = (*STEPS, "--save-interval-updates", 1, "--clip-norm", 0)
    assert train_forked(small, tmp_path, *options, "--max-update", 3).code == 0
    bad = train_forked(small, tmp_path, *options, "--max-update", 60, "--lr", 1e38, "--reset-lr-scheduler")
    assert bad.code == 1 and "Traceback" not in bad.output
    assert re.search("error: (after update|update) ", bad.output)
    parameters = load(tmp_path / "checkpoint_last.pt")["model"].values()
    assert all(torch.isfinite(parameter).all() for parameter in parameters)


def test_another_seed_keeps_the_state(small, tmp_path):
    train_forked(small, tmp_path, *STEPS, "--max-update", 5)
    again = train_forked(small, tmp_path, *STEPS, "--max-update", 7, "--seed", 7)
    assert again.code == 0 and "rebuilt" not in again.output and list(curve(again)) == [6, 7]


def run_out_of_memory_at_the_third_chunk() -> None:
    from fairseq_sharnn.models.sha_rnn import SHARNNDecoder

    forward = SHARNNDecoder.forward

    def failing(self, tokens, stream=None, **kwargs):
        if self.training and stream is not None and stream.index == 3:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return forward(self, tokens, stream=stream, **kwargs)

    SHARNNDecoder.forward = failing


def test_out_of_memory_stops_with_its_place(small, tmp_path):
    """fairseq would drop the chunk and train on the next one; a stream must not lose one."""
    options = ("--max-update", 9, "--save-interval-updates", 2)
    finished = train_forked(small, tmp_path, *STEPS, *options, before=run_out_of_memory_at_the_third_chunk)
    assert finished.code == 1 and "Traceback" not in finished.output
    assert re.search(
        r"error: update 4 \(chunk 4 of the epoch, its first lane at byte \d+\): out of memory;.* with "
        r"--checkpoint-activations, a smaller --batch-size",
        finished.output,
    )
    assert load(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 2


def test_fairseqs_other_ways_to_start_from_a_checkpoint(small, tmp_path):
    train_forked(small, tmp_path / "a", *STEPS, "--max-update", 6)
    checkpoint = tmp_path / "a" / "checkpoint_last.pt"
    for number, (options, updates) in enumerate(
        [
            (("--finetune-from-model", checkpoint), 3),
            (("--restore-file", checkpoint, "--reset-optimizer", "--reset-dataloader", "--reset-meters"), 9),
            (("--restore-file", checkpoint, "--reset-optimizer", "--reset-lr-scheduler"), 9),
        ]
    ):
        finished = train_forked(small, tmp_path / str(number), *STEPS, "--max-update", updates, *options)
        assert finished.code == 0, finished.output[-2000:]
        assert float(next(iter(curve(finished).values()))) < 7.5


def test_checkpoint_activations_change_nothing_but_memory(small, tmp_path):
    plain = train_forked(small, tmp_path / "a", *STEPS, "--max-update", 6)
    frugal = train_forked(small, tmp_path / "b", *STEPS, "--max-update", 6, "--checkpoint-activations")
    assert curve(plain) == curve(frugal)
    one, two = (load(tmp_path / name / "checkpoint_last.pt")["model"] for name in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one)


def cuda_is_the_cpu() -> None:
    """fairseq asks for a GPU where a loss scale overflows."""
    torch.Tensor.cuda = lambda self, *args, **kwargs: self


def test_overflowed_steps_keep_state_and_bytes_together(small, tmp_path):
    """A loss scale far too high: updates are skipped, chunks are not. The state is that of all bytes consumed."""
    options = (*STEPS, "--fp16", "--fp16-init-scale", 2**20, "--context-length", 2000, "--dropout", 0)
    finished = train_forked(small, tmp_path, *options, "--max-update", 6, before=cuda_is_the_cpu)
    assert finished.code == 0, finished.output[-3000:]
    overflows = finished.output.count("gradient overflow detected")
    assert overflows >= 2
    iterator = load(tmp_path / "checkpoint_last.pt")["extra_state"]["train_iterator"]
    assert iterator["iterations_in_epoch"] == 6 + overflows
    plan = TrainingPlan.from_dict(iterator["stream"]["plan"])
    segments = iterator["stream"]["state"]["layers"][0]["memory"]["segments"]
    assert sum(rows.size(1) for rows in segments) == plan.column(6 + overflows)
