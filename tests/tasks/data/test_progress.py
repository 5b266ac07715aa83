from types import SimpleNamespace

from rich.progress import Progress

from synaptic_pruning.tasks.progress import FileProgress, show_progress


def test_a_download_fills_its_share_of_the_bar_and_no_more():
    bars = Progress(disable=True)
    task = bars.add_task("", total=3)
    share = FileProgress(bars, task, before=1)
    at = lambda: bars.tasks[0].completed  # noqa: E731
    share.total = 200
    share.update(50)
    assert at() == 1.25
    share.update(500)  # a server that gives more than it said
    assert at() == 2
    share.reset()
    share.update(100)
    share.close()
    assert at() == 1.5


def test_a_download_of_unknown_size_stands_still():
    bars = Progress(disable=True)
    share = FileProgress(bars, bars.add_task("", total=1), before=0)
    share.update(70)
    assert bars.tasks[0].completed == 0


def test_files_come_in_order_each_with_its_share(capsys):
    files = [SimpleNamespace(name=name) for name in "ab"]
    assert [file.name for file, _ in show_progress(files)] == ["a", "b"]
    assert list(show_progress([])) == []
    said = capsys.readouterr()
    assert (said.out, said.err.strip()) == ("", "")
