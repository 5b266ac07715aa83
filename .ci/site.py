"""The documentation site: pages from the root of the tree, links into the code as words, doctests as code.

The site knows no public address of the code, so a link from a page to a file outside of ``docs/`` keeps its words and
tells the path when pointed at. A file that does not exist is a warning, which `make docs` takes for an error.
"""

import logging
import os
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files at the root, and the pages that they become."""

_LINK = re.compile(r"(?P<code>^```.*?^```)|(?P<picture>!?)\[(?P<words>[^\]]*)\]\((?P<target>[^):\s]+)\)", re.S | re.M)
_log = logging.getLogger("mkdocs.plugins.site")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from the root."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to the site's pages, and turn those to other files into words."""
    uri = page.file.src_uri
    folder = ROOT if uri in PAGES.values() else (DOCS / uri).parent

    def link(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None or target.startswith("#"):
            return found[0]
        path, mark, anchor = target.partition("#")
        file = Path(os.path.normpath(folder / path))
        inside = file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else path
        if not file.exists():
            _log.warning("%s links to %s, which does not exist", uri, inside)
        if inside in PAGES:
            place = PAGES[inside]
        elif file.is_relative_to(DOCS) and not file.is_dir():
            place = file.relative_to(DOCS).as_posix()
        else:
            return f'<span title="{inside}">{found["words"]}</span>'
        start = Path(uri).parent.as_posix()
        return f"{found['picture']}[{found['words']}]({os.path.relpath(place, start)}{mark}{anchor})"

    return _LINK.sub(link, markdown)


class Doctests(griffe.Extension):
    """Show what follows ``Example:`` as code: griffe knows the plural alone."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section of one object."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.M)
