"""One bar for any number of downloads."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from synaptic_pruning.tasks.download import File

_File = TypeVar("_File", bound="File")


def shown(files: Iterable[_File]) -> "Iterator[tuple[_File, Share]]":
    """Yield each file with what to tell of its download; the bar counts files and is gone at the end."""
    from rich.console import Console
    from rich.progress import Progress

    files = list(files)
    if not files:
        return
    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=len(files))
        for done, file in enumerate(files):
            bars.update(task, description=file.name, completed=done)
            yield file, Share(bars, task, done)


class Share:
    """One download as its share of the bar; see `fetch.Progress`."""

    def __init__(self, bars: "Progress", task: "TaskID", before: int) -> None:
        self.total = 0
        self._bars, self._task, self._before, self._bytes = bars, task, before, 0

    def update(self, amount: int) -> None:
        """Let the bar grow by these bytes' part of a file."""
        self._bytes = min(self._bytes + amount, self.total)
        self._bars.update(self._task, completed=self._before + self._bytes / max(self.total, 1))

    def reset(self) -> None:
        """Start again; the bytes are told once more."""
        self._bytes = 0

    def close(self) -> None:
        """Leave the bar as it is."""
