"""Run the Python blocks of a page, and compare what they print with the text blocks that follow them."""

import contextlib
import io
import re

_BLOCK = re.compile(r"^```(python|text)\n(.*?)^```", re.S | re.M)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def run_page(page: str) -> list[tuple[str, str]]:
    """Run all Python blocks of a page in one namespace; return each text block with what was printed before it."""
    names: dict[str, object] = {"__name__": "page"}
    pairs, said = [], io.StringIO()
    for language, block in _BLOCK.findall(page):
        if language == "python":
            with contextlib.redirect_stdout(said):
                exec(block, names)
        else:
            pairs.append((block, said.getvalue()))
            said = io.StringIO()
    return pairs


def same_but_for_rounding(shown: str, printed: str) -> bool:
    """Return whether words and layout agree, and each number within a twentieth or two of its last digit.

    Other processors round otherwise, and after some hundred steps a few weights differ.
    """
    if _NUMBER.sub("#", shown).split() != _NUMBER.sub("#", printed).split():
        return False
    for one, other in zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=True):
        digit = 10.0 ** -len(one.partition(".")[2])
        values = [float(text.replace(",", "")) for text in (one, other)]
        if abs(values[0] - values[1]) > max(2.001 * digit, 0.05 * abs(values[0])):
            return False
    return True
