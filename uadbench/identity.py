"""Hashes that tell one cell from another: of source code, of files and of plain values."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import io
import json
import os
import sys
import tokenize
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from uadbench.config import cache_folder
from uadbench.errors import DataError

LENGTH = 16
"""Characters of a hash that are kept: 64 bits, enough for millions of cells."""

HARNESS = tuple(
    f"uadbench.{name}"
    for name in ("volumes", "preparation", "training", "diffusion", "nets", "noise", "features", "reading", "prepared")
)
"""Core modules that shape an anomaly map. A method depends on those that it imports; on the first two every method does."""


def digest(value: Any) -> str:
    """Return the hash of a JSON-like value. The order of keys does not matter; tuples equal lists."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def code_of(text: str) -> str:
    """Return Python source without comments, blank lines and trailing spaces: what decides a method's identity.

    Source that cannot be tokenised is returned as it is.
    """
    lines = text.splitlines()
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
    except (tokenize.TokenError, SyntaxError):
        return text
    return "\n".join(kept for line in lines if (kept := line.rstrip()))


@lru_cache(maxsize=512)
def _code_and_imports(path: Path, mtime: int) -> tuple[str, tuple[str, ...]]:
    """Return the code of a file and the names of the modules it imports; relative ones begin with dots."""
    text = path.read_text(encoding="utf-8")
    names: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            gap = "" if base.endswith(".") else "."
            names += [base, *(f"{base}{gap}{alias.name}" for alias in node.names)]
    return code_of(text), tuple(names)


def source_files(cls: type, *, maps: bool = True) -> list[Path]:
    """Return the files whose code decides what `cls` computes.

    These are the modules of the class and its bases, what they import from the catalogue or from their own package,
    and the modules of `HARNESS` that they import; with `maps` also those that prepare volumes, cut and join slices.
    """
    own = {c.__module__ for c in cls.__mro__ if not c.__module__.startswith("uadbench.") or _catalogue(c.__module__)}
    own -= {"builtins", "abc", "typing"}
    packages = {name.partition(".")[0] for name in own} - {"uadbench"}
    todo = [*own, *(["uadbench.volumes", "uadbench.preparation"] if maps else [])]
    found: dict[str, Path] = {}
    while todo:
        name = todo.pop()
        if name in found or not (path := _file(name)):
            continue
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for written in _code_and_imports(path, path.stat().st_mtime_ns)[1]:
            imported = _absolute(written, package)
            if _catalogue(imported) or imported in HARNESS or imported.partition(".")[0] in packages:
                todo.append(imported)
    return sorted(set(found.values()))


def source_hash(cls: type, *, maps: bool = True) -> str:
    """Return the hash of everything in `source_files(cls)`. Comments and blank lines do not count."""
    files = source_files(cls, maps=maps)
    # Sorted by what they hold: where the files lie is no part of it.
    return digest(sorted([p.name, _code_and_imports(p, p.stat().st_mtime_ns)[0]] for p in files))


def _absolute(name: str, package: str) -> str:
    """Return the full name of an imported module; "" for one that climbs out of its package."""
    if not name.startswith("."):
        return name
    bare = name.lstrip(".")
    parts = package.split(".") if package else []
    kept = len(parts) - (len(name) - len(bare) - 1)
    return ".".join([*parts[:kept], *([bare] if bare else [])]) if kept > 0 else ""


def _catalogue(module: str) -> bool:
    return module.startswith(("uadbench.methods.", "uadbench.datasets."))


def _file(module: str) -> Path | None:
    """Return the source file of a module that is imported or can be found, or None."""
    import importlib.util

    loaded = sys.modules.get(module)
    origin = getattr(loaded, "__file__", None)
    if origin is None and loaded is None:
        above = _file(module.rpartition(".")[0]) if "." in module else None
        if above and above.name != "__init__.py":
            return None  # A name inside a module; asking for its spec would import that module.
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError, AttributeError):
            return None
        origin = spec.origin if spec else None
    path = Path(origin) if origin else None
    return path.resolve() if path and path.suffix == ".py" and path.is_file() else None


def file_hash(path: Path) -> str:
    """Return the hash of a file's bytes, from a cache while path, size and modification time are the same.

    Raises:
        DataError: if the file cannot be read.
    """
    try:
        stat = path.stat()
        key = digest([str(path.resolve()), stat.st_size, stat.st_mtime_ns])
        cached = cache_folder() / "hashes" / key[:2] / key
        if cached.is_file() and (known := cached.read_text()):
            return known
        with path.open("rb") as file:
            value = hashlib.file_digest(file, "sha256") if sys.version_info >= (3, 11) else _digest(file)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}; restore it or take it out of the set"
        ) from error
    result = value.hexdigest()[:LENGTH]
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        temporary = cached.with_name(f"{cached.name}.{os.getpid()}")
        temporary.write_text(result)
        temporary.replace(cached)
    except OSError:
        pass  # A cache that cannot be written costs time, never a result.
    return result


def _digest(file: Iterable[bytes]) -> Any:
    value = hashlib.sha256()
    for chunk in file:
        value.update(chunk)
    return value


READ_WITH = ("numpy", "torch", "scipy", "nibabel", "pillow", "SimpleITK", "pydicom")
"""Libraries between the files of a dataset and what is made of them."""


@lru_cache(maxsize=8)
def core_code(modules: tuple[str, ...]) -> str:
    """Return the hash of modules of the core that make something of data, and of the versions of the libraries below."""
    here = Path(__file__).parent
    versions: dict[str, str] = {}
    for name in READ_WITH:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return digest([[code_of((here / f"{name}.py").read_text(encoding="utf-8")) for name in modules], versions])
