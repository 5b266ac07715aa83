"""Show one progress bar for several downloads."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from synaptic_pruning.tasks.download import File

_File = TypeVar("_File", bound="File")


def show_progress(files: Iterable[_File]) -> "Iterator[tuple[_File, FileProgress]]":
    """Yield each file with the progress that its download reports to.

    The bar counts files and disappears at the end.
    """
    from rich.console import Console
    from rich.progress import Progress

    files = list(files)
    if not files:
        return
    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=len(files))
        for done, file in enumerate(files):
            bars.update(task, description=file.name, completed=done)
            yield file, FileProgress(bars, task, done)


class FileProgress:
    """One download as its part of the common bar; implements `download.Progress`."""

    def __init__(self, bars: "Progress", task: "TaskID", before: int) -> None:
        self.total = 0
        self._bars, self._task, self._before, self._bytes = bars, task, before, 0

    def update(self, amount: int) -> None:
        """Advance the bar by these bytes' part of one file."""
        self._bytes = min(self._bytes + amount, self.total)
        self._bars.update(self._task, completed=self._before + self._bytes / max(self.total, 1))

    def reset(self) -> None:
        """Start again; the bytes are reported once more."""
        self._bytes = 0

    def close(self) -> None:
        """Leave the bar as it is."""
