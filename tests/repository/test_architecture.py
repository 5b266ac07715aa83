"""The rules of the package's layout, read from its imports: arrows down, no circles, faces, at most nine entries."""

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "synaptic_pruning"
FILES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted({file.parent for file in FILES})

# What each room may import. "synaptic_pruning" is the public face: everything but tasks, study, cli and the callbacks.
LIBRARY = {"core", "rules", "pruner", "dropout", "export", "synaptic_pruning"}
BELOW = {
    "core": set(),
    "dropout": set(),
    "rules": {"core"},
    "pruner": {"core", "rules"},
    "export": {"core"},
    "integrations": {"core", "rules", "pruner"},
    "synaptic_pruning": LIBRARY - {"synaptic_pruning"} | {"integrations"},
    "tasks": LIBRARY,
    "study": LIBRARY | {"tasks"},
    "cli": LIBRARY | {"tasks", "study"},
    "__main__": {"cli"},
}
TORCH_ALONE = ("core", "rules", "pruner", "dropout", "synaptic_pruning")
# The one import beside torch: a plot that is asked for, inside its function.
PLOTS = {("core/summary.py", "matplotlib")}


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in FILES}


@functools.cache
def face_names(folder: Path) -> list[str]:
    """What ``__all__`` of a folder's face holds."""
    for node in ast.parse((folder / "__init__.py").read_text()).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__":
            return ast.literal_eval(node.value)
    raise AssertionError(f"{folder}/__init__.py has no __all__")


@functools.cache
def imports(file: Path) -> tuple[str, ...]:
    """Every module that a file imports: at the top, inside functions and for type checking."""
    return tuple(_imports(file))


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                # A function may bear the name of its file: then the face has it.
                is_module = name in MODULES and alias.name not in face_names(MODULES[node.module].parent)
                yield name if is_module else node.module


def ours(file: Path) -> set[str]:
    """The modules of this package among them."""
    return {name for name in imports(file) if name in MODULES and MODULES[name] != file}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def test_arrows_go_down():
    pairs = [(module_of(file), name) for file in FILES for name in ours(file)]
    assert not [(a, b) for a, b in pairs if room(b) != room(a) and room(b) not in BELOW[room(a)]]


def test_rooms_have_no_circle():
    order = list(BELOW)
    assert all(set(order[: order.index(above)]) >= BELOW[above] for above in order)


def test_files_have_no_circle():
    graph = {name: ours(file) for name, file in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path[path.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_other_folders_are_entered_by_their_face():
    """From the own folder and those above it files are imported directly, from anywhere else only a face."""
    pairs = [(file, name) for file in FILES for name in ours(file)]
    files = [(file, name) for file, name in pairs if MODULES[name].name != "__init__.py"]
    assert not [(module_of(file), name) for file, name in files if MODULES[name].parent not in file.parents]


def test_every_folder_has_a_face_and_at_most_nine_entries():
    beside = ("__init__.py", "__main__.py", "__pycache__", "py.typed")
    for folder in FOLDERS:
        assert face_names(folder) is not None
        entries = [entry.name for entry in folder.iterdir() if entry.name not in beside]
        assert len(entries) <= 9, (folder, entries)


@pytest.mark.parametrize("name", TORCH_ALONE)
def test_the_core_imports_torch_alone(name: str):
    for file in [file for module, file in MODULES.items() if room(module) == name]:
        for imported in imports(file):
            top = imported.partition(".")[0]
            known = top in ("torch", "synaptic_pruning") or top in sys.stdlib_module_names
            assert known or (str(file.relative_to(PACKAGE)), top) in PLOTS, f"{file} imports {top}"


@pytest.mark.parametrize(("package", "home"), [("typer", "cli"), ("numba", "export/kernels")])
def test_some_packages_have_one_home(package: str, home: str):
    for file in FILES:
        if package in {name.partition(".")[0] for name in imports(file)}:
            assert str(file.relative_to(PACKAGE)).startswith(home)


def test_the_first_line_says_the_role():
    for file in FILES:
        docstring = ast.get_docstring(ast.parse(file.read_text()))
        assert docstring, file
        first = docstring.splitlines()[0]
        assert first.endswith("."), (file, first)
        assert not re.match(r"(What|Which|Who|Where|How|From|With|Do|Is)\b", first), (file, first)


WORDS = r"\b(dead|dying|dies|died|condemned|silenced?|newborn|give[sn]? way|appeal|doomed)\b"


def test_pruned_and_grown_have_one_word_each():
    assert not {file: found for file in FILES if (found := re.findall(WORDS, file.read_text()))}
