"""The figure of features in the plane, before and after the training."""

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from qhybrid.experiments.embedding import Embedding
from qhybrid.report.figures import COLOURS, STYLE, shortened

MARKERS = "os^Dv<>PX*"
"""Classes differ in shape as well, for who cannot tell colours apart."""


def features_figure(embedding: Embedding, class_names: Sequence[str], titles: tuple[str, str]) -> Figure:
    """Draw images as points, one panel before and one after the training.

    Args:
        embedding: Where the points are.
        class_names: One a class.
        titles: Of the panels.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 3.9), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, points, title in zip(panels, (embedding.before, embedding.after), titles, strict=True):
            for k, name in enumerate(class_names):
                here = points[embedding.labels == k]
                axes.scatter(
                    *here.T,
                    s=16,
                    marker=MARKERS[k % len(MARKERS)],
                    color=COLOURS[k % len(COLOURS)],
                    alpha=0.75,
                    linewidth=0,
                    label=shortened(name),
                )
            axes.set_title(title)
            axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
            for spine in axes.spines.values():
                spine.set_visible(True)
                spine.set_color("#e6e6e6")
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 5))
    return figure
