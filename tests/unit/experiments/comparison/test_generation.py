from types import SimpleNamespace

from experiments.comparison import generation
from experiments.comparison.records import Generation
from experiments.harness.decoding import StepwiseDecoder
from experiments.harness.records import write_record
from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary
from tests.unit.experiments.harness.test_decoding import Recorder


def test_only_the_loop_over_bytes_is_timed(monkeypatch):
    """Each round starts at the end of the prompt, which is read once, before."""
    model, dictionary = Recorder(), ByteDictionary()
    decoder = StepwiseDecoder(model, dictionary.eos(), window=None)
    clock = iter([0.0, 1.0, 10.0, 15.0])
    calls = []

    def now():
        calls.append(len(model.calls))
        return next(clock)

    monkeypatch.setattr(generation.time, "perf_counter", now)
    logits = generation.read_prompt(decoder, dictionary, b"prompt")
    seconds = [generation.seconds_to_write(decoder.fork(), logits, dictionary, 4) for _ in range(2)]
    assert seconds == [1.0, 5.0] and calls == [7, 11, 11, 15]
    assert [steps for _, steps in model.calls[7:]] == [8, 9, 10, 11] * 2 and len(decoder.tokens) == 7


def test_of_a_long_prompt_a_window_sees_the_end():
    decoder = StepwiseDecoder(Recorder(), ByteDictionary().eos(), window=6)
    generation.read_prompt(decoder, ByteDictionary(), b"a long prompt")
    assert len(decoder.tokens) == 6 and decoder.first == 0  # </s> and five bytes: the next one makes it slide


def test_without_a_checkpoint_only_the_record_is_read(tmp_path):
    """No command is started (there are no processes to start it with), and nothing is recorded of the attempt."""
    run = SimpleNamespace(folder=tmp_path, checkpoint=tmp_path / "checkpoint_best.pt")
    assert generation.generation_speed(run, None) is False
    assert list(tmp_path.iterdir()) == [] and generation.read_generation(run) == Generation()
    record = Generation("command", None, 5, {"1000": 2.0})
    write_record(tmp_path / "generation.json", record)
    assert generation.generation_speed(run, None) is False and generation.read_generation(run) == record
