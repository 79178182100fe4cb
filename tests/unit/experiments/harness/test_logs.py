from experiments.harness.logs import read_evaluation, read_slice
from experiments.harness.processes import reason_of_failure

INNER = (
    '{time:.3f} 2026-01-01 | INFO | train_inner | {{"epoch": 1, "bpb": "{bpb}", "wpb": "{wpb}", "num_updates": "{n}"}}'
)
VALID = '{time:.3f} 2026-01-01 | INFO | valid | {{"epoch": 1, "valid_bpb": "{bpb}", "valid_num_updates": "{n}"}}'


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def slice_log(path, *more):
    return write(
        path,
        '99.0 x | begin dry-run validation on "valid" subset',
        "100.0 x | Start iterating over samples",
        INNER.format(time=105, bpb=5.0, wpb=1000, n=20),
        INNER.format(time=110, bpb=4.5, wpb=900, n=30),
        "112.0 x | end of epoch 1 (average epoch stats below)",
        "113.0 x | Start iterating over samples",
        '120.0 x | begin validation on "valid" subset',
        *more,
    )


def test_a_slice_counts_training_only(tmp_path):
    done = read_slice(slice_log(tmp_path / "log", VALID.format(time=127.5, bpb=3.25, n=34)), 10)
    assert (done.train_seconds, done.valid_seconds) == (19.0, 7.5)
    assert (done.updates, done.train_bpb, done.valid_bpb) == (34, 4.5, 3.25)
    assert done.slice_bytes == 10 * 1000 + 10 * 900 + 4 * 900


def test_a_slice_by_processor_time_leaves_out_what_was_waited_for(tmp_path):
    """Stamps WALL/CPU: 7 s of training of which 2 were waited for, 20 s of validation of which 15 were waited for."""
    path = write(
        tmp_path / "log",
        "100.0/50.0 x | Start iterating over samples",
        INNER.format(time=103, bpb=5, wpb=1000, n=20).replace("103.000", "103.000/51.5"),
        '107.0/55.0 x | begin validation on "valid" subset',
        VALID.format(time=127, bpb=3.25, n=34).replace("127.000", "127.000/60.0"),
    )
    wall, cpu = read_slice(path, 0), read_slice(path, 0, processor_time=True)
    assert (wall.train_seconds, wall.valid_seconds, wall.wall_seconds) == (7.0, 20.0, 7.0)
    assert (cpu.train_seconds, cpu.valid_seconds, cpu.wall_seconds) == (5.0, 5.0, 7.0)


def test_the_least_memory_that_was_free_on_a_gpu(tmp_path):
    assert read_slice(slice_log(tmp_path / "cpu", VALID.format(time=127.5, bpb=3.25, n=34)), 0).gpu_free is None
    inner = [
        INNER.format(time=105 + n, bpb=5, wpb=1000, n=n)[:-1] + f', "gb_free": "{free}"}}'
        for n, free in ((1, 70.5), (2, 61.2), (3, 65.0))
    ]
    lines = ["100.0 x | Start iterating over samples", *inner, '120.0 x | begin validation on "valid" subset']
    path = write(tmp_path / "gpu", *lines, VALID.format(time=131, bpb=3.25, n=3))
    assert read_slice(path, 0).gpu_free == 61.2


def test_the_warm_rate_leaves_out_the_first_third(tmp_path):
    inner = [INNER.format(time=time, bpb=5, wpb=1000, n=n) for time, n in ((108, 2), (112, 10), (120, 90), (130, 190))]
    path = write(
        tmp_path / "log",
        "100.0 x | Start iterating over samples",
        *inner,
        '130.0 x | begin validation on "valid" subset',
        VALID.format(time=131, bpb=3.25, n=190),
    )
    assert read_slice(path, 0).warm_rate == (190 - 10) / (130 - 112)
    assert read_slice(slice_log(tmp_path / "short", VALID.format(time=127.5, bpb=3.25, n=34)), 0).warm_rate > 0


def test_a_slice_without_validation_is_not_done(tmp_path):
    assert read_slice(slice_log(tmp_path / "log"), 0) is None
    cut = write(tmp_path / "cut", "100.0 x | Start iterating over samples", "10", "")
    assert read_slice(cut, 0) is None


def test_an_evaluation_with_thousands_separators(tmp_path):
    path = write(
        tmp_path / "log",
        "1.0 x | INFO | Evaluated 207,720 tokens in 1,234.5s (168.27 tokens/s)",
        "1.0 x | INFO | Loss (base 2): 2.3439, Perplexity: 5.08",
    )
    found = read_evaluation(path)
    assert (found.tokens, round(found.seconds), found.bpb) == (207720, 1234, 2.3439)
    assert read_evaluation(write(tmp_path / "half", "1.0 Evaluated 5 tokens in 1.0s (5.00 tokens/s)")) is None


def test_the_reason_of_a_failure_is_one_line(tmp_path):
    path = write(tmp_path / "log", "1.0 Traceback (most recent call last):", "1.0   File x", "1.0 ValueError: no good")
    assert reason_of_failure(path, 1) == "ValueError: no good"
    assert reason_of_failure(path, -9) == "killed by signal 9 (SIGKILL)"
    path = write(tmp_path / "log", "1.0 error: --lr is too high", "1.0 later words")
    assert reason_of_failure(path, 1) == "--lr is too high"
    assert reason_of_failure(write(tmp_path / "log", ""), 3) == "exit code 3, and no output"
