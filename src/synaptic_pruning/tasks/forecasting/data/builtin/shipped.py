"""Find the series that ship with the package."""

from pathlib import Path


def shipped_file(name: str) -> Path:
    """Return the path of the file of a series that ships with the package; `series/ATTRIBUTION.md` names the sources.

    Args:
        name: Name in the registry.

    Example:
        >>> shipped_file("steel-energy-mini").is_file()
        True
    """
    return Path(__file__).parent / "series" / f"{name}.csv.gz"
