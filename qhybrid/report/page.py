"""A report as one self-contained HTML page, with its figures as SVG and PNG files beside it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from markupsafe import Markup, escape
from matplotlib.figure import Figure

from qhybrid.errors import InputError
from qhybrid.report.svg import inline_svg, png_file, svg_file
from qhybrid.storage import write_bytes, write_text

Kind = Literal["fact", "shown", "open", "loss"]
"""Of a statement: what was seen; what was shown; what cannot be told; a loss that was shown."""


@dataclass(frozen=True)
class Statement:
    """One sentence or two of the verdict.

    Args:
        text: In plain words.
        kind: What it is, said by a mark in front of it.
    """

    text: str
    kind: Kind = "fact"


@dataclass(frozen=True)
class Table:
    """A table; its first column names the rows.

    Args:
        caption: What it shows.
        columns: Heads.
        rows: Texts, as many as heads.
        text_columns: How many columns from the left hold words; the others hold numbers.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1


@dataclass(frozen=True)
class Picture:
    """A figure with its caption, its text alternative and its numbers.

    Args:
        name: Of its files, unique on the page; letters, digits, hyphens.
        title: What it is.
        caption: What it shows and how to read it.
        description: What is to be seen, for who cannot see it.
        figure: The drawing.
        tables: The same numbers.
        themed: Follow the colours of the page; else it stands on a white plate.
        wide: Across the page; else two stand side by side where there is room.
    """

    name: str
    title: str
    caption: str
    description: str
    figure: Figure
    tables: Sequence[Table] = ()
    themed: bool = True
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        name: Its anchor.
        title: Its heading.
        paragraphs: Texts.
        tables: Shown.
        pictures: Shown after the tables.
        folded: Tables that open on demand.
        commands: Shown as lines to copy.
    """

    name: str
    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    folded: Sequence[Table] = ()
    commands: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """A report.

    Args:
        title: Its heading.
        subtitle: A line under it.
        verdict: What was found, in plain words.
        cautions: What it does not show.
        sections: All else.
    """

    title: str
    subtitle: str
    verdict: Sequence[Statement]
    cautions: Sequence[str]
    sections: Sequence[Section] = field(default_factory=tuple)


def write_page(page: Page, path: Path) -> list[Path]:
    """Write a page, and its figures into `figures/` beside it; the page comes last and in one piece.

    Args:
        page: The report.
        path: The HTML file.

    Returns:
        The files, the page first.

    Raises:
        InputError: They cannot be written.
    """
    pictures = [picture for section in page.sections for picture in section.pictures]
    drawn = {picture.name: svg_file(picture.figure) for picture in pictures}
    inline = {
        picture.name: inline_svg(
            drawn[picture.name], picture.name, picture.title, picture.description, themed=picture.themed
        )
        for picture in pictures
    }
    html = render(page, inline)
    written = [path]
    try:
        for picture in pictures:
            file = path.parent / "figures" / picture.name
            write_bytes(file.with_suffix(".svg"), drawn[picture.name], durable=False)
            write_bytes(file.with_suffix(".png"), png_file(picture.figure), durable=False)
            written += [file.with_suffix(".svg"), file.with_suffix(".png")]
        write_text(path, html)
    except OSError as error:
        raise InputError(f"{path}: the report cannot be written ({error.strerror or error})") from None
    return written


def render(page: Page, drawings: dict[str, str]) -> str:
    """A page as HTML; every text is escaped.

    Args:
        page: The report.
        drawings: Name of a picture -> its SVG, from `inline_svg`, the only markup that is taken as it is.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code"] = _code
    return environment.from_string(_template()).render(page=page, drawings=drawings)


def _code(text: str) -> Markup:
    """Escape a text; what stands between backticks becomes code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


@cache
def _template() -> str:
    return (resources.files("qhybrid.report") / "page.html.jinja").read_text(encoding="utf-8")
