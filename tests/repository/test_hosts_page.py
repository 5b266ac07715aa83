"""The table of docs/hosts.md names only tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "hosts.md").read_text()
DEFINED = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\btest_\w+\b(?!\.py)", PAGE))))
def test_every_test_that_the_page_names_exists(name: str):
    assert name in DEFINED


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(\.\./([^)]+)\)", PAGE))))
def test_every_file_that_the_page_links_exists(link: str):
    assert (ROOT / link).exists()
