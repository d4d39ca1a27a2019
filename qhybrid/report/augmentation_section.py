"""The part of a study's report about its augmentation: how near synthetic images come to real ones."""

from typing import Any

from qhybrid.experiments.augmentation_table import COLUMNS, quality_findings, quality_notes, quality_rows
from qhybrid.report.page import Section, Table


def augmentation_section(results: dict[str, Any]) -> list[Section]:
    """One section; none for a study from before this was measured.

    Args:
        results: What `study.json` holds.
    """
    found = results.get("augmentation")
    if found is None:
        return []
    title = "How near synthetic images come to real ones"
    if "not_measured" in found:
        return [Section("augmentation", title, [f"This was not measured: {found['not_measured']}."])]
    rows, name = [], ""
    for kind, *rest in quality_rows(found):
        name = kind or name  # of each row: a table is read out row by row
        rows.append([name, *rest])
    table = Table(
        f"{found['images_per_class']} images of each class, in the features of {found['features']['name']}.",
        COLUMNS,
        rows,
        text_columns=2,
    )
    notes = quality_notes(found)
    return [Section("augmentation", title, [" ".join(quality_findings(found)), *notes], tables=[table])]
