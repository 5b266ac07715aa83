"""What a report says about its study beside the results: its name, its origin, which data sets belong together."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class About:
    """What a report is told about the study.

    Attributes:
        command: what its reader types to get it again.
        title: its heading; "" for a plain comparison.
        blocks: the block of every data set, those of one source count once; a data set not named is its own.
        development: data sets that recipes were chosen on; the others confirm.
        spec: the text of the spec file.
    """

    command: str
    title: str = ""
    blocks: Mapping[str, str] = field(default_factory=dict)
    development: tuple[str, ...] = ()
    spec: str = ""
