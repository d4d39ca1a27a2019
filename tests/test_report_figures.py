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
    assert save_figure(figure, tmp_path / "training.png").stat().st_size > 5000
