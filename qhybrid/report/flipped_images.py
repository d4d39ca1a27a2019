"""The images whose diagnosis a device flips, and those on which the classifier is surest and wrong."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qhybrid.data.audit import audit, drop_leaks
from qhybrid.data.centres import load_centres
from qhybrid.data.dataset import ImageDataset
from qhybrid.data.sources import load_dataset
from qhybrid.errors import InputError, QHybridError
from qhybrid.report.figures import STYLE, shortened
from qhybrid.report.page import Picture, Section, Table
from qhybrid.report.run_data import Condition, RunData

MOST = 12
COLUMNS = 4


def images_section(data: RunData) -> list[Section]:
    """Show the images that flip under the usual condition with most flips, or else the least certain ones."""
    worst = max(data.usual, key=_flips, default=None)
    ids = data.run.features(data.split).ids
    by_id = {str(name): k for k, name in enumerate(ids)}
    certainty = np.sort(data.probabilities, axis=1)
    gaps = certainty[:, -1] - certainty[:, -2]
    if worst is not None and worst.flips.any():
        order = np.argsort(-worst.flips, kind="stable")[: min(MOST, int(np.count_nonzero(worst.flips)))]
        chosen = [by_id[str(worst.arrays["ids"][k])] for k in order]
        shares = {by_id[str(worst.arrays["ids"][k])]: float(worst.flips[k]) for k in order}
        title = "Images whose diagnosis flips"
        total = int(np.count_nonzero(worst.flips))
        repeats = worst.cell["cell"]["repeats"]
        text = (
            f"{worst.where}: {total} of {worst.n} images change their diagnosis in at least one of {repeats} draws of "
            f"the shots; shown are the {len(chosen)} that do most often."
        )
        if _are_unsure(gaps, chosen):
            text += " The classifier was least sure about them before."
    else:
        chosen = [int(k) for k in np.argsort(gaps, kind="stable")[:MOST]]
        shares = {}
        title = "Images about which the classifier is least sure"
        text = "No diagnosis flips under the usual conditions." if worst is not None else (
            "Noise and shots would flip these first."
        )  # fmt: skip
    table = _table(data, ids, chosen, shares)
    try:
        images = _images(data, [str(ids[k]) for k in chosen])
    except (QHybridError, OSError, KeyError) as error:
        left_out = f"The images themselves are left out: {error}"
        return [Section("images", title, [text, left_out], tables=[table])]
    picture = Picture(
        "images",
        "The images",
        "Under each image: its true class, what the classifier says with exact values and how sure it is, and how "
        "often the device says otherwise.",
        "Sample images; the table under the figure says for each what it is and how it is diagnosed.",
        sample_figure(images, [_lines(data, k, shares) for k in chosen]),
        [table],
        wide=True,
    )
    return [Section("images", title, [text], pictures=[picture])]


def sample_figure(images: NDArray[np.float32], lines: list[str]) -> Figure:
    """Draw images with a few lines under each.

    Args:
        images: (n, h, w, 3) in [0, 1].
        lines: One text an image.
    """
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.75 * columns + 0.1, 2.3 * rows), layout="constrained")
        for axes, image, text in zip(figure.subplots(rows, columns, squeeze=False).flat, images, lines, strict=False):
            axes.imshow(image, interpolation="nearest")
            axes.set_xlabel(text, fontsize=8, linespacing=1.35, loc="left")
            axes.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
        for axes in figure.axes[len(images) :]:
            axes.set_axis_off()
        for axes in figure.axes:
            for spine in axes.spines.values():
                spine.set_visible(False)
    return figure


def _lines(data: RunData, k: int, shares: dict[int, float]) -> str:
    names, probabilities = data.run.class_names, data.probabilities[k]
    said = int(probabilities.argmax())
    lines = [
        f"is {shortened(names[data.labels[k]], 18)}",
        f"called {shortened(names[said], 13)} ({100 * probabilities[said]:.0f} %)",
    ]
    return "\n".join([*lines, f"flips in {100 * shares[k]:.0f} % of draws"] if k in shares else lines)


def _table(data: RunData, ids: NDArray[np.str_], chosen: list[int], shares: dict[int, float]) -> Table:
    names = data.run.class_names
    return Table(
        "These images.",
        ["image", "true class", "exact diagnosis", "probability", "draws that say otherwise"],
        [
            [
                str(ids[k]),
                names[data.labels[k]],
                names[int(data.probabilities[k].argmax())],
                f"{data.probabilities[k].max():.3f}",
                f"{100 * shares[k]:.0f} %" if k in shares else "–",
            ]
            for k in chosen
        ],
        text_columns=3,
    )


def _images(data: RunData, ids: list[str]) -> NDArray[np.float32]:
    """The images of these ids, (n, h, w, 3), from where the run had them."""
    dataset = _dataset(data)
    split = dataset.splits[data.split]
    place = {name: k for k, name in enumerate(split.ids)}
    batch: NDArray[np.float32] = split.batch([place[name] for name in ids]).permute(0, 2, 3, 1).numpy()
    return batch


def _dataset(data: RunData) -> ImageDataset:
    spec, domains = data.run.spec.data, data.run.spec.domains
    dataset = load_dataset(spec) if domains is None else load_centres(spec, domains)
    if spec.drop_leaks and data.run.data.get("leaks"):
        dataset = drop_leaks(dataset, audit(dataset, near=False))
    if dataset.fingerprint() != data.run.data["fingerprint"]:
        raise InputError(f"{spec.source} holds other images than those of the run")
    return dataset


def _flips(condition: Condition) -> float:
    return float(condition.flips.sum())


def _are_unsure(gaps: NDArray[np.float64], chosen: list[int]) -> bool:
    """Whether most of the chosen are in the least certain fifth."""
    limit = np.quantile(gaps, 0.2)
    return bool(np.mean(gaps[chosen] <= limit) > 0.5)
