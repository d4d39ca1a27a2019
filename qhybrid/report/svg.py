"""Figures as SVG: files of their own, and inside a page, where they take its font and its colours."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
THEME = {
    "#222222": "ink", "#1a1a1a": "ink", "#000000": "ink", "#595959": "grey", "#e6e6e6": "grid", "#ffffff": "paper",
    "#0072b2": "blue", "#d55e00": "vermilion", "#009e73": "green", "#cc79a7": "pink", "#e69f00": "orange",
    "#56b4e9": "sky",
}  # fmt: skip
"""Colours that a page may set anew, by its CSS variables `--figure-<name>`, for a dark background."""
CELL_INK, CELL_PAPER = "#1f1f1f", "#fefefe"
"""Dark and light text on coloured areas, which stay what they are on every background."""
DPI = 160
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_FAMILY = re.compile(r"(font-family: ?|font: [^;]*?[\d.]+px )[^;]+")
PAGE_FONT = "system-ui, 'Segoe UI', Roboto, Arial, sans-serif"


def svg_file(figure: Figure) -> bytes:
    """A figure as a file: white background, colours fixed, pictures inside it 160 dots an inch."""
    return _rendered(figure, "svg", facecolor="white", dpi=DPI)


def png_file(figure: Figure) -> bytes:
    """The same as PNG, 160 dots an inch."""
    return _rendered(figure, "png", facecolor="white", dpi=DPI)


def inline_svg(svg: bytes, name: str, title: str, description: str, *, themed: bool = True) -> str:
    """Make an SVG file a part of an HTML page.

    Every id gets the name in front, so that figures do not take each other's clip paths and markers. The white
    background goes, and with `themed` every colour of `THEME` becomes a CSS variable with that colour as fallback.

    Args:
        svg: What `svg_file` gives.
        name: Unique on the page; letters, digits, hyphens.
        title: Read out by a screen reader.
        description: The same, at length: what is to be seen.
        themed: Follow the page's colours; else the figure needs a white plate.
    """
    root = ElementTree.fromstring(svg)
    for element in root.findall(f"{{{SVG}}}metadata"):
        root.remove(element)
    for element in root.findall(f"{{{SVG}}}defs"):
        for style in element.findall(f"{{{SVG}}}style"):
            element.remove(style)  # it would hold for the whole page, which has the same rule for figures
    background = root.find(f".//{{{SVG}}}g[@id='patch_1']")
    if background is not None:
        background.clear()
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            element.set(key, _adapted(key, value, name, themed=themed))
    _, _, width, height = (float(number) for number in root.attrib["viewBox"].split())
    root.attrib |= {"width": f"{width * 4 / 3:.0f}", "height": f"{height * 4 / 3:.0f}", "role": "img"}
    root.set("aria-labelledby", f"{name}-title {name}-text")
    for place, (tag, suffix, words) in enumerate([("title", "title", title), ("desc", "text", description)]):
        element = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{name}-{suffix}"})
        element.text = words
        root.insert(place, element)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _adapted(key: str, value: str, name: str, *, themed: bool) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key in ("href", f"{{{XLINK}}}href") and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    value = _REFERENCE.sub(rf"url(#{name}-\1)", value)
    if key == "style":
        # Text is set in the font of the page, which is as wide as the figure's own or narrower.
        value = _FAMILY.sub(rf"\1{PAGE_FONT}", value)
        value = _themed(value) if themed else value
    return value


def _themed(style: str) -> str:
    def replaced(found: re.Match[str]) -> str:
        name = THEME.get(found[0])
        return f"var(--figure-{name}, {found[0]})" if name else found[0]

    return _COLOUR.sub(replaced, style)


def _rendered(figure: Figure, kind: str, **settings: Any) -> bytes:
    stream = io.BytesIO()
    with _quiet(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "qhybrid"}):
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(stream, format=kind, bbox_inches="tight", pad_inches=0.06, metadata=metadata, **settings)
    return stream.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """Names in a script that matplotlib's font lacks are set by the browser; a PNG shows boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield
