"""Hook of the build: what a package index shows of the README, which it shows without the files beside it.

There is no public address to link to yet. So pictures of the tree are left out, and links into it become their words.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PICTURE = re.compile(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n*")
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)[^)]*\)")


class Readme(MetadataHookInterface):
    """Gives the README to the package's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add it, without what leads into the tree."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = _LINK.sub(r"\1", _PICTURE.sub("", text))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
