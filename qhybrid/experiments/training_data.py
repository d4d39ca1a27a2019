"""The images of an experiment as a training takes them: audited, and without leaks where that is asked for."""

from rich.console import Console
from rich.markup import escape

from qhybrid.data.audit import audit, drop_leaks
from qhybrid.data.centres import load_centres
from qhybrid.data.dataset import ImageDataset
from qhybrid.data.sources import load_dataset
from qhybrid.experiments.spec import ExperimentSpec


def load_data(spec: ExperimentSpec, console: Console) -> tuple[ImageDataset, list[str]]:
    """Load the images of an experiment, audit them, and drop leaks if asked to.

    Returns:
        The images, and a sentence for each kind of leak, dropped or not.
    """
    dataset = load_dataset(spec.data) if spec.domains is None else load_centres(spec.data, spec.domains)
    report = audit(dataset, near=False)
    leaks = report.leak_sentences()
    for sentence in leaks:
        console.print(f"[yellow]warning:[/] {escape(sentence)}", highlight=False, soft_wrap=True)
    if leaks and spec.data.drop_leaks:
        before = len(dataset.splits["train"])
        dataset = drop_leaks(dataset, report)
        dropped = before - len(dataset.splits["train"])
        console.print(
            f"dropped {dropped} training images that recur in validation or test", highlight=False, soft_wrap=True
        )
    elif leaks:
        console.print(
            "scores may be too good; --drop-leaks removes the training copies", highlight=False, soft_wrap=True
        )
    return dataset, leaks
