from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qhybrid.report.figures import confusion_figure, roc_figure, save_figure, training_figure


def _texts(axes: object) -> list[str]:
    return [text.get_text() for text in axes.texts]  # type: ignore[attr-defined]


def test_the_confusion_matrix_shows_counts_and_row_percentages() -> None:
    figure = confusion_figure(np.array([[55, 5], [2, 58]]), ("negative", "positive"), "title")
    axes = figure.axes[0]
    assert _texts(axes) == ["55\n92 %", "5\n8 %", "2\n3 %", "58\n97 %"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["negative\n(n = 60)", "positive\n(n = 60)"]


def test_the_head_says_on_what_it_was_evaluated() -> None:
    on = "qhybrid.density, ibm_torino x0.5 (gates2q, thermal, readout), 3 x 1024 shots"
    confusion = confusion_figure(np.array([[5, 1], [2, 4]]), ("a", "b"), "small, test split", on)
    roc = roc_figure(np.array([0, 1, 1]), np.eye(2)[[0, 1, 0]], ("a", "b"), "small, test split", on, n=10)
    for figure in (confusion, roc):
        figure.canvas.draw()
        (words,) = [text for text in figure.axes[0].texts if "ibm_torino" in text.get_text()]
        assert " ".join(words.get_text().split()) == on
        assert figure.axes[0].get_title(loc="left") == "small, test split"
        (title,) = figure.axes[0].findobj(lambda each: getattr(each, "get_text", str)() == "small, test split")
        assert words.get_window_extent().y1 <= title.get_window_extent().y0
        assert words.get_window_extent().x1 <= figure.bbox.x1


def test_a_class_without_samples_is_drawn() -> None:
    figure = confusion_figure(np.array([[3, 0, 0], [0, 0, 0], [1, 0, 2]]), ("a", "b", "c"))
    assert "0\n0 %" in _texts(figure.axes[0])


@pytest.mark.parametrize("n_classes", [2, 3, 9])
def test_a_roc_figure_has_one_curve_a_class_with_its_area_and_interval(n_classes: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(90) % n_classes
    scores = np.exp(rng.normal(size=(90, n_classes)) + 2 * np.eye(n_classes)[labels])
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    names = [f"a class with a long name {k}" for k in range(n_classes)]
    figure = roc_figure(labels, probabilities, names, n=100)
    shown = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    areas = [text for text in shown if "AUC 0." in text and "[" in text]
    assert len(areas) == (1 if n_classes == 2 else n_classes)
    path = save_figure(figure, tmp_path / "roc.png")
    with Image.open(path) as image:
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)


@pytest.mark.parametrize("epochs", [1, 30])
def test_training_curves_mark_the_best_epoch(epochs: int, tmp_path: Path) -> None:
    loss = np.abs(np.arange(epochs) - 17) / 20 + 0.1
    log = {"epoch": np.arange(1, epochs + 1)}
    log |= dict.fromkeys(("train_loss", "validation_loss"), loss)
    log |= dict.fromkeys(("train_accuracy", "validation_accuracy"), 1 - loss / 3)
    figure = training_figure(log, "title")
    shown = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert f"best epoch ({min(epochs, 18)})" in shown
    figure.canvas.draw()
    ticks = [label.get_text() for axes in figure.axes for label in axes.get_xticklabels()]
    assert ticks
    assert all(tick.isdecimal() for tick in ticks)
    assert save_figure(figure, tmp_path / "training.png").stat().st_size > 5000
