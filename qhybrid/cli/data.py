"""`qhybrid data`: look at data before training on them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qhybrid.cli import options

if TYPE_CHECKING:
    from qhybrid.data.audit import AuditReport

app = typer.Typer(no_args_is_help=True, help="Look at data: contact sheets, and an audit for leaks.")

Source = Annotated[str, typer.Argument(help="angiography, medmnist:PATH.npz, folder:PATH or dicom:PATH.")]
Size = Annotated[int | None, typer.Option(help="Images are resized to this many pixels a side.")]


@app.command()
def preview(
    source: Source = "angiography",
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("preview.png"),
    augment: Annotated[
        bool, typer.Option("--augment", help="Show originals above their synthetic variants at each step t.")
    ] = False,
    image_size: Size = None,
    seed: Annotated[int, typer.Option(help="Seed of the variants.")] = 0,
    settings: options.Settings = None,
) -> None:
    """Write a contact sheet of a data set."""
    from qhybrid.data.preview import augment_sheet, contact_sheet
    from qhybrid.data.sources import load_dataset

    spec, augment_spec = _specs(source, image_size, settings)
    dataset = load_dataset(spec)
    if augment:
        augment_sheet(dataset, augment_spec, out, seed=seed)
    else:
        contact_sheet(dataset, out)
    print(f"drawn into {out}")


@app.command()
def audit(
    source: Source = "angiography",
    image_size: Size = None,
    out: Annotated[Path | None, typer.Option(help="Also write the whole report into this JSON file.")] = None,
    settings: options.Settings = None,
    as_json: options.Json = False,
) -> None:
    """Look for images that recur across splits, label conflicts and corrupt files."""
    import json

    from qhybrid.data.audit import audit as look
    from qhybrid.data.sources import load_dataset
    from qhybrid.errors import InputError

    spec, _ = _specs(source, image_size, settings)
    unreadable: list[str] = []
    report = look(load_dataset(spec, unreadable=unreadable), corrupt=unreadable)
    values = report.to_dict()
    if out is not None:
        try:
            out.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {str(out)!r} ({error.strerror})") from None
    if as_json:
        options.print_json(values)
        return
    counts = values["class_counts"]
    options.print_table(
        f"{report.source}: images of each class",
        ["split", *next(iter(counts.values()))],
        [[split, *classes.values()] for split, classes in counts.items()],
    )
    options.print_table("findings", ["what", "how many"], _findings(report))
    if report.leaks:
        options.print_table(
            "images that recur across splits",
            ["group", "image", "class"],
            [
                [number if member is group.members[0] else "", member.id, member.class_name]
                for number, group in enumerate(report.leaks, start=1)
                for member in group.members
            ],
        )
    for sentence in [*report.leak_sentences(), *report.corrupt]:
        print(sentence)


def _findings(report: "AuditReport") -> list[tuple[str, object]]:
    groups = sum(len(group.members) for group in report.exact)
    rows: list[tuple[str, object]] = [
        ("groups of equal images", len(report.exact)),
        ("images in them", groups),
        ("groups across splits (leaks)", len(report.leaks)),
        ("groups with different labels", len(report.label_conflicts)),
        (f"near pairs (correlation >= {report.near_threshold})", report.n_near),
    ]
    if report.usual_nearest is not None:
        rows.append(("an image's usual nearest neighbour (correlation)", f"{report.usual_nearest:.3f}"))
    rows.append(("files that cannot be read", len(report.corrupt)))
    return rows


def _specs(source: str, image_size: int | None, settings: list[str] | None) -> tuple[Any, Any]:
    from qhybrid.experiments.spec import ExperimentSpec, override

    given = options.overrides(settings, data__source=source, data__image_size=image_size)
    spec = override(ExperimentSpec(name="data"), given)
    return spec.data, spec.augment
