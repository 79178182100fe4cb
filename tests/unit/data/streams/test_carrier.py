import pytest

from fairseq_sharnn.data.streams.carrier import Rebuild, Restore, StreamCarrier, StreamChunk


class Model:
    pass


def test_each_model_gets_the_state_it_left():
    carrier, models = StreamCarrier(), (Model(), Model())
    for index in range(3):
        chunk = StreamChunk(index, index == 0, carrier)
        for number, model in enumerate(models):
            assert chunk.state(model) == (None if index == 0 else (number, index - 1))
            chunk.keep(model, (number, index))


def test_a_chunk_that_is_run_again_starts_from_the_same_state():
    carrier, model = StreamCarrier(keep_whole_update=True), Model()
    for index in range(4):
        carrier.begin_update(index // 2)  # two chunks an update
        chunk = StreamChunk(index, index == 0, carrier)
        assert chunk.state(model) == (None if index == 0 else index - 1)
        chunk.keep(model, index)
    carrier.begin_update(1)  # the second update again
    for index in (2, 3):
        chunk = StreamChunk(index, False, carrier)
        assert chunk.state(model) == index - 1
        chunk.keep(model, index)
    carrier.begin_update(2)
    with pytest.raises(RuntimeError, match="chunks were lost"):
        StreamChunk(3, False, carrier).state(model)


@pytest.mark.parametrize("start", ["restore", "rebuild"])
def test_the_state_to_begin_with_is_taken_once(start):
    class Restoring(Model):
        def restore_stream_state(self, saved):
            return saved["state"]

    carrier, model = StreamCarrier(keep_whole_update=True), Restoring()
    if start == "restore":
        carrier.start = Restore(5, {"state": "five"})
        assert carrier.saved(5) == {"state": "five"} and carrier.saved(4) is None
        assert carrier.inputs_to_rebuild(5) is None
        assert carrier.before(model, 5) == "five" and carrier.before(model, 5) == "five"
    else:
        carrier.start = Rebuild(5, lambda: iter([1, 2]))
        assert carrier.saved(5) is None and carrier.inputs_to_rebuild(4) is None
        assert list(carrier.inputs_to_rebuild(5)) == [1, 2]
    assert carrier.start is None and carrier.inputs_to_rebuild(5) is None
    with pytest.raises(RuntimeError, match="chunk 5 of a stream came after nothing"):
        carrier.before(Restoring(), 5)
    empty = carrier.emptied()
    assert empty.keep_whole_update and empty.start is None


def test_a_lost_chunk_is_noticed():
    carrier, model = StreamCarrier(), Model()
    StreamChunk(0, True, carrier).keep(model, 0)
    with pytest.raises(RuntimeError, match="chunk 2 of a stream came after"):
        StreamChunk(2, False, carrier).state(model)


def test_outside_training_old_states_are_let_go():
    carrier, model = StreamCarrier(), Model()
    for index in range(10):
        StreamChunk(index, index == 0, carrier).keep(model, index)
    assert len(carrier._before[model]) == 2


def test_state_goes_with_its_model():
    carrier, model = StreamCarrier(), Model()
    StreamChunk(0, True, carrier).keep(model, 0)
    del model
    assert len(carrier._before) == 0
