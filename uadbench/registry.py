"""From a name to a class: built-ins by file, other distributions by entry point, local plug-ins by path.

Listing names imports nothing: summaries come from the first line of a file's docstring, read as text.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from uadbench.dataset import Dataset
from uadbench.errors import NameClash, PluginError, UsageError, unknown_name
from uadbench.identity import digest
from uadbench.method import Method

Kind = Literal["method", "dataset"]
BASE: dict[Kind, type] = {"method": Method, "dataset": Dataset}
FOLDER: dict[Kind, str] = {"method": "methods", "dataset": "datasets"}
ENVIRONMENT = "UADBENCH_PLUGINS"

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Entry:
    """One component that can be loaded by name.

    Attributes:
        kind: "method" or "dataset".
        name: as typed by the user.
        origin: where it comes from, in words.
        target: a module name, "module:Class", or the path of a file.
        summary: the first line of its docstring; empty if it cannot be had without importing anything.
    """

    kind: Kind
    name: str
    origin: str
    target: str
    summary: str

    def load(self) -> type:
        """Import the component and return its class.

        Raises:
            PluginError: if it cannot be imported or does not define exactly one class of its kind.
        """
        try:
            if self.target.endswith(".py"):
                return _only_class(_import_file(Path(self.target)), self.kind)
            module_name, _, attribute = self.target.partition(":")
            module = importlib.import_module(module_name)
            found = getattr(module, attribute) if attribute else _only_class(module, self.kind)
        except PluginError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{self.kind} {self.name!r} from {self.origin} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        if not (isinstance(found, type) and issubclass(found, BASE[self.kind])):
            raise PluginError(f"{self.kind} {self.name!r} from {self.origin}: {self.target} is no uadbench.{self.kind}")
        return found


class Registry:
    """All components that can be found now."""

    def __init__(self, plugins: Sequence[str | Path] = (), *, warn: Warn | None = None) -> None:
        """Look for built-ins, installed plug-ins and the local `plugins` (also those of $UADBENCH_PLUGINS).

        Args:
            plugins: paths of files, or of folders with plug-in files.
            warn: called with one sentence for each plug-in that cannot be read; it is left out.

        Raises:
            UsageError: if one of `plugins` does not exist.
        """
        self._warn = warn or (lambda text: sys.stderr.write(f"warning: {text}\n"))
        for path in plugins:
            if not Path(path).expanduser().exists():
                raise UsageError(
                    f"--plugin {path}: there is no such file or folder; the path is relative to {Path.cwd()}"
                )
        given = [*os.environ.get(ENVIRONMENT, "").split(os.pathsep), *map(str, plugins)]
        self._plugins = list(dict.fromkeys(Path(p).expanduser().resolve() for p in given if p))
        self._entries: dict[Kind, dict[str, Entry]] = {}

    def entries(self, kind: Kind) -> dict[str, Entry]:
        """Return all components of a kind by name, sorted.

        Raises:
            NameClash: if two have the same name; the message names both.
        """
        if kind not in self._entries:
            found: dict[str, Entry] = {}
            for entry in [*_built_in(kind), *_installed(kind), *self._local(kind)]:
                if entry.name in found:
                    other = found[entry.name]
                    installed = ":" in other.target and entry.target.endswith(".py")
                    remedy = "leave out --plugin" if installed else "rename or leave out one of them"
                    raise NameClash(
                        f"two {kind}s are called {entry.name!r}: one from {other.origin}, one from {entry.origin}; "
                        f"{remedy}"
                    )
                found[entry.name] = entry
            self._entries[kind] = dict(sorted(found.items()))
        return self._entries[kind]

    def entry(self, kind: Kind, name: str) -> Entry:
        """Return one component.

        Raises:
            UnknownName: with the nearest name.
        """
        entries = self.entries(kind)
        if name not in entries:
            raise unknown_name(kind, name, entries)
        return entries[name]

    def method(self, name: str) -> type[Method]:
        """Import and return the class of a method."""
        return self.entry("method", name).load()

    def dataset(self, name: str) -> type[Dataset]:
        """Import and return the class of a dataset."""
        return self.entry("dataset", name).load()

    def _local(self, kind: Kind) -> Iterable[Entry]:
        seen: set[Path] = set()
        for path in self._plugins:
            if not path.exists():
                if kind == "method":  # One warning, not one for each kind.
                    self._warn(f"plug-in {path} left out: there is no such file or folder")
                continue
            for file in _files(path):
                if file in seen:  # A folder and a file in it are both given.
                    continue
                seen.add(file)
                try:
                    tree = ast.parse(file.read_text(encoding="utf-8"))
                except SyntaxError as error:
                    if kind == "method":
                        self._warn(f"plug-in {file} left out: SyntaxError in line {error.lineno}: {error.msg}")
                    continue
                except (OSError, ValueError) as error:
                    if kind == "method":
                        self._warn(f"plug-in {file} left out: {type(error).__name__}: {error}")
                    continue
                kinds = _kinds(tree)
                if not kinds and path.is_file() and kind == "method":
                    self._warn(f"plug-in {file} left out: it defines no class derived from Method or Dataset")
                if kind in kinds:
                    name = file.parent.name if file.name == "__init__.py" else file.stem
                    yield Entry(kind, name, f"the plug-in {file}", str(file), _first_line(tree))


def check_catalogue() -> str | None:
    """Return what is wrong with the catalogue's folders in this installation, or None."""
    for name in FOLDER.values():
        path = Path(__file__).parent / name
        if path.is_file():
            return (
                f"{path} is a text file: git checked out its links as text. Run: git config core.symlinks true, then: "
                f"git checkout -- uadbench/{name}; or install with: pip install ."
            )
        if not path.is_dir():
            return f"{path} does not exist; install uadbench again"
    return None


def _built_in(kind: Kind) -> list[Entry]:
    if problem := check_catalogue():
        raise UsageError(problem)
    folder = Path(__file__).parent / FOLDER[kind]
    return [
        Entry(
            kind,
            path.stem,
            "uadbench",
            f"uadbench.{FOLDER[kind]}.{path.stem}",
            _first_line(ast.parse(path.read_text("utf-8"))),
        )
        for path in sorted(folder.glob("*.py"))
        if not path.name.startswith("_")
    ]


def _installed(kind: Kind) -> list[Entry]:
    from importlib.metadata import entry_points

    found = entry_points(group=f"uadbench.{FOLDER[kind]}")
    return [
        Entry(
            kind,
            e.name,
            f"{e.dist.name} {e.dist.version}" if e.dist else "an installed package",
            e.value.replace(" ", ""),
            _summary(e.value.partition(":")[0].strip()),
        )
        for e in found
    ]


def _summary(module: str) -> str:
    """Return the first line of a module's docstring; "" if its file cannot be read. Nothing is imported."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)  # Asking for a module inside a package would import the package.
        if spec is None or spec.origin is None:
            return ""
        file = Path(spec.origin)
        if rest:
            inner = file.parent.joinpath(*rest)
            file = inner / "__init__.py" if inner.is_dir() else inner.with_suffix(".py")
        return _first_line(ast.parse(file.read_text(encoding="utf-8")))
    except (ImportError, OSError, SyntaxError, ValueError):
        return ""


def _files(path: Path) -> list[Path]:
    """Return the plug-in files at a path: itself, a package's __init__.py, or the files and packages in a folder."""
    if path.is_file():
        return [path]
    if (path / "__init__.py").is_file():
        return [path / "__init__.py"]
    inner = [p for p in path.glob("*.py") if not p.name.startswith(("_", "test_", "setup", "conftest"))]
    return sorted([*inner, *path.glob("*/__init__.py")])


def _kinds(tree: ast.Module) -> set[Kind]:
    """Return which kinds of component a file defines, judged by where the bases of its classes come from."""
    origin: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            origin |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            origin |= {alias.asname or alias.name: alias.name for alias in node.names}
    kinds: set[Kind] = set()
    for node in tree.body:
        for base in node.bases if isinstance(node, ast.ClassDef) else ():
            first, _, rest = ast.unparse(base).partition(".")
            full = f"{origin.get(first, first)}.{rest}".rstrip(".")
            if full.startswith("uadbench"):
                kinds.add("dataset" if ".dataset" in full or full.endswith(".Dataset") else "method")
    return kinds


def _first_line(tree: ast.Module) -> str:
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def _import_file(path: Path) -> ModuleType:
    """Import a plug-in file under a name of its own, once."""
    package = path.name == "__init__.py"
    stem = path.parent.name if package else path.stem
    name = f"uadbench_plugin_{stem}_{digest(str(path))[:6]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=[str(path.parent)] if package else None
    )
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _only_class(module: ModuleType, kind: Kind) -> type:
    """Return the one public class of a kind that a module defines."""
    # In Python 3.10 list[str] passes for a class.
    classes = [v for v in vars(module).values() if isinstance(v, type) and not hasattr(v, "__origin__")]
    own = [c for c in classes if issubclass(c, BASE[kind]) and c.__module__ == module.__name__]
    own = [c for c in own if not c.__name__.startswith("_")]
    found = [c for c in own if not inspect.isabstract(c)]
    if own and not found:
        lacking = ", ".join(sorted(own[0].__abstractmethods__))  # type: ignore[attr-defined]
        raise PluginError(f"{module.__file__}: {own[0].__name__} must define {lacking}")
    if len(found) != 1:
        names = ", ".join(c.__name__ for c in found) or "none"
        raise PluginError(f"{module.__file__} must define exactly one {kind}; found: {names}")
    return found[0]
