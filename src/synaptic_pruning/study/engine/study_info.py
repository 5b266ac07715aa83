"""Tell a report about its study beside the results: name, origin, which data sets belong together."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class About:
    """What a report is told about the study.

    Attributes:
        command: The command line that gives it again.
        title: Heading of the report; "" for a plain comparison.
        blocks: Block of every data set; those of one source count once. A data set that is not named is its own.
        domains: Domain of every data set, where it is known.
        development: Data sets that recipes were chosen on; the others confirm.
        spec: Text of the spec file.
    """

    command: str
    title: str = ""
    blocks: Mapping[str, str] = field(default_factory=dict)
    domains: Mapping[str, str] = field(default_factory=dict)
    development: tuple[str, ...] = ()
    spec: str = ""
