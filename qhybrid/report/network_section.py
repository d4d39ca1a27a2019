"""The part of a run's report about its network: size, operations and time of an image, and its features."""

from qhybrid.errors import QHybridError
from qhybrid.experiments.embedding import feature_embedding
from qhybrid.experiments.network_cost import network_cost
from qhybrid.experiments.run_folder import Run
from qhybrid.report.figures_features import features_figure
from qhybrid.report.page import Picture, Section, Table

FIRST = {"none": "random weights", "imagenet": "ImageNet's weights", "pretrained": "pretrained weights"}


def network_section(run: Run) -> Section:
    """What one image costs, and how the training moves the features of the test images apart."""
    said, tables = _cost(run)
    try:
        pictures = [_features(run)]
    except (QHybridError, OSError, KeyError) as error:
        said.append(f"The features before the training are left out: {error}")
        pictures = []
    return Section("network", "The network", said, tables=tables, pictures=pictures)


def _cost(run: Run) -> tuple[list[str], list[Table]]:
    rows = [
        [f"parameters: {name}", f"{run.data['parameters'][key]:,}"]
        for key, name in (("backbone", "CNN with its projection"), ("head", "head"), ("total", "all"))
        if key in run.data.get("parameters", {})
    ]
    said = _beginning(run)
    try:
        cost = network_cost(run)
    except QHybridError as error:
        said.append(f"What an image costs could not be measured: {error}")
    else:
        threads = "" if cost["processor"] != "CPU" else f", {cost['threads']} thread{'s' * (cost['threads'] > 1)}"
        on = f"{cost['processor']}{threads}" + (f", {cost['quantum_device']}" if cost["quantum_device"] else "")
        rows += [
            ["floating-point operations of an image", f"{cost['flops']:,}"],
            [f"milliseconds of an image ({on})", f"{cost['latency_ms']:.3g}"],
        ]
        said.append(
            "Operations are those of convolutions and matrix products, a multiplication and an addition are two; the "
            "circuit's simulation is not in them, but is in the time. The time is the median of "
            f"{cost['passes']} images, one at a time, on the computer that first made this report."
        )
    return said, [Table("What an image costs.", ["what", "value"], rows)] if rows else []


def _beginning(run: Run) -> list[str]:
    made = run.data.get("pretrained")
    said = []
    if made is not None:
        how = "SimCLR, without labels," if made["method"] == "simclr" else "the labels"
        said.append(
            f"Before the training the CNN was pretrained by {how} on {made['n_images']} images of {made['source']}, "
            f"for {made['epochs']} epochs{''.join(f'; {leak}' for leak in made['leaks'])}."
        )
    share = run.spec.data.label_fraction
    if share < 1:
        kept = sum(run.data["counts"]["train"].values())
        said.append(f"Of the training images {100 * share:g} % of each class kept their label: {kept} were trained on.")
    return said


def _features(run: Run) -> Picture:
    found = feature_embedding(run)
    before, after = (f"{100 * share:.0f} %" for share in found.neighbours)
    first = FIRST.get(run.spec.model.weights, "weights from a file")
    numbers = Table(
        "Images whose nearest neighbour, by what the head receives, is of the same class.",
        ["weights", "share of the images"],
        [[f"before the training: {first}", before], ["after the training", after]],
    )
    return Picture(
        "features",
        "Features of the test images",
        "What the head receives of each test image, put into the plane by t-SNE so that neighbours stay neighbours. "
        "Axes have no meaning, and the distance between groups has none.",
        f"With {first} the nearest neighbour of {before} of {len(found.labels)} images is of the same class, after the "
        f"training of {after}.",
        features_figure(found, run.class_names, (f"before: {first}", "after the training")),
        [numbers],
        wide=True,
    )
