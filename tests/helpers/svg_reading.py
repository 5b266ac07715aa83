"""Read the SVG of a plot: texts, pixel images and elements; check what holds for every plot."""

import base64
import io
from dataclasses import dataclass
from xml.etree import ElementTree

import matplotlib.image
import numpy as np


@dataclass
class SvgContent:
    """The texts of a picture in drawing order, its pixel images, and its elements."""

    texts: list[str]
    images: list[np.ndarray]
    root: ElementTree.Element


def read_svg(panel) -> SvgContent:
    assert "<script" not in panel.svg
    assert "http" not in panel.svg
    root = ElementTree.fromstring(panel.svg.replace("<svg", '<svg xmlns:xlink="x"', 1))  # HTML knows the prefix
    assert root.tag == "svg"
    assert root.get("role") == "img"
    title = root.find("title")
    assert title.text == panel.description
    assert root.get("aria-labelledby") == title.get("id")
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    links = [element.get("{x}href") for element in root.iter() if element.get("{x}href")]
    for link in links:
        assert link.startswith("data:image/png;base64,") or link.removeprefix("#") in ids
    texts = ["".join(element.itertext()) for element in root.iter("text")]
    return SvgContent(texts, [pixels(element) for element in root.iter("image")], root)


def pixels(element: ElementTree.Element) -> np.ndarray:
    data = base64.b64decode(element.get("{x}href").split(",", 1)[1])
    image = matplotlib.image.imread(io.BytesIO(data), format="png")
    return image[::-1] if "scale(1 -1)" in element.get("transform", "") else image
