"""Load the templates of the reports; a name that a page does not know is an error."""

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["environment"]


@cache
def environment(**filters: Callable[..., Any]) -> Environment:
    """Return the templates, with texts from data escaped.

    Args:
        **filters: Filters of the page, by the name that its template calls them.
    """
    loaded = Environment(
        loader=PackageLoader("synaptic_pruning.study", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    loaded.filters |= filters
    return loaded
