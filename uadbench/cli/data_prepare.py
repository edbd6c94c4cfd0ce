"""`uadbench datasets prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uadbench.cli.console import TerminalReporter, say
from uadbench.cli.run import Plugins, warn_without_cache
from uadbench.config import check_names
from uadbench.errors import UsageError

if TYPE_CHECKING:
    from uadbench.dataset import Dataset


def prepare(
    name: str,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="What to write, for datasets that write something.")
    ] = None,
    data: Annotated[list[str] | None, typer.Option("--data", "-D", help="key=value; repeatable.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    plugin: Plugins = None,
) -> None:
    """Make what a dataset needs before the first run: a manifest for nifti, the cached volumes of phantom."""
    from uadbench.opening import resolve_dataset
    from uadbench.params import assign, describe, resolve
    from uadbench.registry import Registry

    registry = Registry(plugin or ())
    check_names("datasets", registry.entries("dataset"))
    cls = registry.dataset(name)
    if cls.preparation is not None:
        if out is None:
            raise UsageError(f"datasets prepare {name} writes a file: give --out PATH")
        if out.exists() and not force:
            raise UsageError(f"{out} is there already; give another --out, or --force to write over it")
        given = assign(data or [], {name: [p.name for p in describe(cls.preparation)]}, "dataset")[name]
        prepared, _ = resolve(cls.preparation, [("command line", given)], owner=f"datasets prepare {name}")
        _print_prepared(name, cls, prepared(out))
        return
    if out is not None:
        raise UsageError(f"datasets prepare {name} writes no file of its own; leave out --out")
    dataset, _ = resolve_dataset(cls, name, data or [])
    warn_without_cache()
    split = dataset.split(0)
    subjects = [s for _, s in split.items()]
    with TerminalReporter().bar("subjects", len(subjects)) as advance:
        for subject in subjects:
            dataset.load(subject).check(f"{name}: {subject.key}")
            advance(1)
    say(f"{len(subjects)} subjects can be read")


def _print_prepared(name: str, cls: type[Dataset], path: Path) -> None:
    """Say what was written, who is used for what, and what to do next."""
    from collections import Counter

    from uadbench.params import create, describe

    typer.echo(f"wrote {path}")
    if "root" in {p.name for p in describe(cls)}:
        counts = Counter(role for role, _ in create(cls, {"root": path}, owner=name).split(0).items())
        typer.echo("subjects: " + ", ".join(f"{role} {n}" for role, n in counts.items()))
        typer.echo(f"Next: uadbench datasets check {name} --root {path} --every-subject")
        typer.echo(f"then: uadbench run --method mddpm --dataset {name} --root {path}")
