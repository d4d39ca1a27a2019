"""`qhybrid data`: look at data before training on them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qhybrid.cli import options
from qhybrid.errors import InputError

if TYPE_CHECKING:
    from qhybrid.data.audit import AuditReport

app = typer.Typer(
    no_args_is_help=True, help="Look at data: contact sheets, an audit for leaks, the quality of augmentation."
)

Source = Annotated[str, typer.Argument(help="angiography, medmnist:PATH.npz, folder:PATH or dicom:PATH.")]
Size = Annotated[int | None, typer.Option(help="Images are resized to this many pixels a side.")]


@app.command()
def preview(
    source: Annotated[
        str | None,
        typer.Argument(help="angiography, medmnist:PATH.npz, folder:PATH or dicom:PATH; angiography without it."),
    ] = None,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("preview.png"),
    centres: Annotated[
        str | None, typer.Option(help="An experiment with [domains]: show images as each of its centres sees them.")
    ] = None,
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

    if centres is not None:
        if augment:
            raise InputError("--centres and --augment are two sheets: give one of them")
        given = options.overrides(settings, data__source=source, data__image_size=image_size)
        _centres_sheet(centres, given, out)
        print(f"drawn into {out}")
        return
    spec, augment_spec = _specs(source or "angiography", image_size, settings)
    dataset = load_dataset(spec)
    if augment:
        augment_sheet(dataset, augment_spec, out, seed=seed)
    else:
        contact_sheet(dataset, out)
    print(f"drawn into {out}")


def _centres_sheet(experiment: str, given: dict[str, Any], out: Path) -> None:
    from qhybrid.data.centres import load_centres
    from qhybrid.data.preview import centres_sheet
    from qhybrid.experiments.spec import load_experiment

    spec = load_experiment(experiment, given)
    if spec.domains is None:
        raise InputError(f"--centres: experiment {experiment!r} has no [domains] table")
    every = spec.domains.model_copy(update={"held_out": "none"})
    centres_sheet(load_centres(spec.data, every), out)


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


@app.command()
def quality(
    source: Annotated[
        str | None,
        typer.Argument(help="angiography, medmnist:PATH.npz, folder:PATH or dicom:PATH; without it the run's images."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Run folder whose settings and backbone are used; without it the newest.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(help="inception or backbone; without it Inception where its weights are at hand. No downloads."),
    ] = None,
    inception_weights: Annotated[
        Path | None, typer.Option(help="torch-fidelity's file of Inception's weights.")
    ] = None,
    split: Annotated[
        str,
        typer.Option(help="Real images that are compared with: validation or test (not to choose by)."),
    ] = "validation",
    limit: Annotated[int, typer.Option(help="At most this many images of a class.")] = 100,
    draws: Annotated[int, typer.Option(help="How often synthetic images are made anew.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic images.")] = 0,
    generator: Annotated[
        list[Path] | None,
        typer.Option(help="Also measure samples of this generator's run; may be given several times."),
    ] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(help="Generators with circuits under this noise model as well, on qhybrid.density."),
    ] = None,
    shots: Annotated[int | None, typer.Option(help="There; exact without it.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of a sample; the generator's settings without it.")] = None,
    image_size: Size = None,
    settings: options.Settings = None,
    as_json: options.Json = False,
) -> None:
    """Measure how near synthetic images come to real ones: FID, KID, and the time that one takes."""
    from qhybrid.errors import InputError
    from qhybrid.experiments.augmentation_quality import quality_of_run
    from qhybrid.experiments.augmentation_table import COLUMNS, quality_findings, quality_notes, quality_rows
    from qhybrid.experiments.image_quality import choose_features, feature_space
    from qhybrid.experiments.runs import open_run
    from qhybrid.experiments.spec import ExperimentSpec, override

    which = choose_features(features, inception_weights)
    trained = open_run(run) if run or source is None or which == "backbone" else None
    spec = ExperimentSpec(name="data") if trained is None else trained.spec
    given = options.overrides(settings, data__source=source, data__image_size=image_size)
    if not generator and (noise or shots or steps):
        raise InputError("noise, shots and steps are those of samples: give --generator RUN")
    generators = [open_run(each) for each in generator or ()]
    found = quality_of_run(
        override(spec, given),
        feature_space(trained, which, inception_weights),
        split=split,
        limit=limit,
        draws=draws,
        seed=seed,
        generators=generators,
        noise=noise or (),
        shots=shots,
        steps=steps,
        figures=True,
    )
    if as_json:
        options.print_json(found)
        return
    options.print_table(f"{found['source']}: augmentation in {found['features']['name']}", COLUMNS, quality_rows(found))
    for sentence in [*quality_findings(found), *quality_notes(found)]:
        options.console().print(sentence, highlight=False, markup=False)
    for each in generators:
        print(f"nearest  {each.path / 'figures'}/nearest-*.png")


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
