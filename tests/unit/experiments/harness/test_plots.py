import pytest

from experiments.harness import plots
from experiments.harness.plots import Series

pytest.importorskip("matplotlib")

SERIES = [Series(f"model {n}", [1e4 * (n + 1), 3e4 + n], [2.0 + n / 10, 2.5 - n / 10]) for n in range(7)]


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, drawn so that everything has its place."""
    saved = []

    def save(figure, path):
        figure.draw_without_rendering()
        saved.append(figure)

    monkeypatch.setattr(plots, "save", save)
    return saved


@pytest.mark.parametrize("draw", [plots.lines, plots.points])
def test_a_legend_covers_no_point(figures, tmp_path, draw):
    draw(tmp_path / "plot", SERIES, "across", "up")
    (figure,) = figures
    ((legend,), (axes,)) = (figure.legends, figure.axes)
    assert len(legend.get_texts()) == len(SERIES) and axes.get_legend() is None
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


@pytest.mark.parametrize(
    "values, some",
    [((9e3, 4e4), "20,000"), ((27e3, 33e3), "30,000"), ((1e-6, 200), "0.000001"), ((400, 3000), "1,000")],
)
def test_numbers_on_a_logarithmic_axis_are_plain(figures, tmp_path, values, some):
    plots.points(tmp_path / "plot", [Series("model", values, [2.0, 2.5])], "across", "up")
    (axes,) = figures[0].axes
    low, high = axes.get_xlim()
    labels = [label.get_text() for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
    assert some in labels and 2 <= len(labels) <= 12
    assert not any("^" in label or "e" in label for label in labels)


@pytest.mark.parametrize(
    "value, text", [(20000, "20,000"), (5, "5"), (0.05, "0.05"), (1e-6, "0.000001"), (2500.5, "2,500")]
)
def test_plain_numbers(value, text):
    assert plots.plain_number(value) == text
