"""`uadbench datasets prepare`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uadbench.cli.console import TerminalReporter, out, say
from uadbench.cli.requests import modalities_of
from uadbench.cli.run import Plugins, warn_without_cache
from uadbench.config import check_names
from uadbench.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from uadbench.dataset import Dataset
    from uadbench.prepare.finish import Outcome
    from uadbench.prepare.recipes import Recipe

SHOWN = 10
"""Reasons that are listed; the files have all."""

NAMED = 3
"""Scans that are named for one reason."""


@dataclass(frozen=True)
class Opening:
    """Opens a dataset by its name, in any process."""

    name: str
    texts: tuple[str, ...]
    plugins: tuple[str, ...]

    def __call__(self) -> Any:
        """Return the dataset."""
        from uadbench.opening import resolve_dataset
        from uadbench.registry import Registry

        cls = Registry(self.plugins, warn=lambda text: None).dataset(self.name)
        return resolve_dataset(cls, self.name, self.texts)[0]


def prepare(
    name: Annotated[str | None, typer.Argument(help="Of the dataset.")] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="What to write: a folder (default: prepared/NAME-RECIPE), or the manifest of nifti."
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--source", "--root", help="Where the data lie; the same as --data root=...")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="standard, mddpm, mddpm-legacy, convert, or a .toml file of your own. Default: standard."),
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="File of a brain to register to, instead of the recipe's.")
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(
            help="Which to write, separated by commas; the same as --data modality=... Default: all that a scan has."
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one for each core.")] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Only so many scans, to try a recipe.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the recipe, as a file that can be changed.")] = False,
    allow_failures: Annotated[
        bool, typer.Option("--allow-failures", help="Finish the folder without the scans that failed.")
    ] = False,
    data: Annotated[list[str] | None, typer.Option("--data", "-D", help="key=value; repeatable.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there; prepare every scan again.")] = False,
    plugin: Plugins = None,
) -> None:
    """Make what a dataset needs before the first run.

    For volumes: a folder prepared by a recipe (registered, skull-stripped and so on), which the same dataset reads with
    --root. For nifti: a manifest. For phantom: its cached volumes.
    """
    if show:
        typer.echo(_recipe(recipe, template).as_toml(), nl=False)
        return
    if name is None:
        raise UsageError("say which dataset is to be prepared, such as: uadbench datasets prepare ixi --source RAW")
    from uadbench.registry import Registry

    registry = Registry(plugin or ())
    check_names("datasets", registry.entries("dataset"))
    cls = registry.dataset(name)
    texts = [*(data or []), *([f"root={source}"] if source else [])]
    given = {"--recipe": recipe, "--template": template, "--modality": modality, "--jobs": jobs, "--first": first}
    given |= {"--allow-failures": allow_failures}
    asked = [option for option, value in given.items() if value]
    if hasattr(cls, "cases"):
        _by_recipe(name, cls, target, _recipe(recipe, template), texts, plugin or [], given, force)
    elif asked:
        raise UsageError(
            f"{asked[0]} is for sets of volumes; {name} is prepared without it: uadbench datasets show {name}"
        )
    elif cls.preparation is not None:
        _manifest(name, cls, cls.preparation, target, texts, force)
    else:
        if target is not None:
            raise UsageError(f"datasets prepare {name} writes no file of its own; leave out --out")
        _read_all(name, cls, texts)


def _recipe(name: str | None, template: str | None) -> Recipe:
    from uadbench.prepare.recipes import get_recipe

    found = get_recipe(name or "standard")
    return found.with_template(template) if template else found


def _by_recipe(
    name: str, cls: type[Dataset], target: Path | None, recipe: Recipe, texts: list[str], plugins: list[str],
    given: dict[str, Any], force: bool,
) -> None:  # fmt: skip
    """Prepare a folder, and say what became of it."""
    from uadbench.dataset import adapter_name
    from uadbench.files import file_name
    from uadbench.opening import resolve_dataset
    from uadbench.prepare.run import prepare as prepare_all
    from uadbench.prepare.work import Task

    dataset, values = resolve_dataset(cls, name, texts)
    asked = given["--modality"] or (values["modality"].value if values["modality"].source == "command line" else "")
    wanted = tuple(modalities_of(asked))
    if target is None:
        target = Path("prepared") / file_name(f"{adapter_name(cls)}-{recipe.name}")
        say(f"writing into {target}; --out names another folder")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        outcome = prepare_all(
            dataset,
            Task(adapter_name(cls), target, recipe, wanted),
            opener=Opening(name, tuple(texts), tuple(plugins)),
            jobs=given["--jobs"] or cores,
            first=given["--first"],
            again=force,
            allow_failures=given["--allow-failures"],
            bar=TerminalReporter().bar,
            note=say,
        )
    except Interrupted as stopped:
        say(str(stopped))
        raise typer.Exit(Interrupted.exit_code) from stopped
    _print_outcome(name, outcome, cls, plugins)


def _print_outcome(name: str, outcome: Outcome, cls: type[Dataset], plugins: Sequence[str]) -> None:
    """Say what became of the scans and what to do next, and exit with 1 if the folder cannot be used."""
    from rich.table import Table

    from uadbench.findings import counted
    from uadbench.prepare.finish import SHEET, TABLE
    from uadbench.prepare.run import TRACES
    from uadbench.prepared import prepared_facts

    suspicious = [row for row in outcome.rows if row["flags"]]
    if suspicious:
        table = Table(title="to be looked at", title_justify="left")
        for column in ("scan", "why"):
            table.add_column(column, overflow="fold")
        by_reason: dict[str, list[str]] = {}
        for row in suspicious:
            by_reason.setdefault(str(row["flags"]).replace(f"{row['key']}: ", ""), []).append(str(row["key"]))
        for reason, keys in list(by_reason.items())[:SHOWN]:
            more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
            table.add_row(", ".join(keys[:NAMED]) + more, reason)
        out().print(table, markup=False)
        if len(by_reason) > SHOWN:
            typer.echo(f"and {len(by_reason) - SHOWN} more in {outcome.folder / TABLE}")
    failed = len(outcome.failed)
    typer.echo(
        f"{counted(outcome.done, 'scans')} prepared, {outcome.kept} kept, {failed} failed, "
        f"{len(suspicious) - failed} suspicious"
    )
    if (outcome.folder / SHEET).is_file():
        typer.echo(f"look at: {outcome.folder / SHEET} (numbers: {outcome.folder / TABLE})")
    if (outcome.folder / TRACES).is_file() and failed:
        typer.echo(f"details of errors that were not foreseen: {outcome.folder / TRACES}")
    if outcome.finished:
        facts = prepared_facts(outcome.folder)
        if facts["scans"] < facts["of"]:
            typer.echo(f"a part of the set: {facts['scans']} of {facts['of']} scans")
        words = f"--root {shlex.quote(str(outcome.folder))}" + "".join(
            f" -D {shlex.quote(f'{key}={value}')}" for key, value in _to_read(facts, cls).items()
        )
        also = "".join(f" --plugin {shlex.quote(place)}" for place in plugins)
        typer.echo(f"Next: uadbench datasets check {name} {words}{also}")
        typer.echo(f"it is read with {words}, wherever the dataset {name} is named")
        return
    if outcome.done + outcome.kept:
        typer.echo(
            "The folder is not finished. Mend the scans that failed and give the same command again, what is finished is "
            "kept; or give --allow-failures to go without them."
        )
    else:
        typer.echo("Nothing was prepared. Mend the scans that failed and give the same command again.")
    raise typer.Exit(1)


def _to_read(facts: dict[str, Any], cls: type[Dataset]) -> dict[str, Any]:
    """Return the parameters without which the adapter would not read what was prepared: those unlike its defaults."""
    from uadbench.params import describe

    usual = {p.name: p.default for p in describe(cls)}
    out = {key: value for key, value in facts["parameters"].items() if usual.get(key) != value}
    there = facts["modalities"]
    if not set(str(usual["modality"]).split("+")) <= set(there):
        out["modality"] = next((word for word in facts["wanted"] if word in there), there[0])
    return out


def _manifest(
    name: str, cls: type[Dataset], preparation: type[Any], target: Path | None, texts: list[str], force: bool
) -> None:
    """Write what the adapter's own preparation writes."""
    from uadbench.params import assign, describe, resolve

    if target is None:
        raise UsageError(f"datasets prepare {name} writes a file: give --out PATH")
    if target.exists() and not force:
        raise UsageError(f"{target} is there already; give another --out, or --force to write over it")
    given = assign(texts, {name: [p.name for p in describe(preparation)]}, "dataset")[name]
    prepared, _ = resolve(preparation, [("command line", given)], owner=f"datasets prepare {name}")
    _print_prepared(name, cls, prepared(target))


def _read_all(name: str, cls: type[Dataset], texts: list[str]) -> None:
    """Read every subject, which fills caches."""
    from uadbench.findings import counted
    from uadbench.opening import resolve_dataset

    dataset, _ = resolve_dataset(cls, name, texts)
    warn_without_cache()
    split = dataset.split(0)
    subjects = [s for _, s in split.items()]
    with TerminalReporter().bar("subjects", len(subjects)) as advance:
        for subject in subjects:
            dataset.load(subject).check(f"{name}: {subject.key}")
            advance(1)
    say(f"{counted(len(subjects), 'subjects')} can be read")


def _print_prepared(name: str, cls: type[Dataset], path: Path) -> None:
    """Say what was written, who is used for what, and what to do next."""
    from collections import Counter

    from uadbench.params import create, describe

    typer.echo(f"wrote {path}")
    if "root" in {p.name for p in describe(cls)}:
        counts = Counter(role for role, _ in create(cls, {"root": path}, owner=name).split(0).items())
        typer.echo("subjects: " + ", ".join(f"{role} {n}" for role, n in counts.items()))
        typer.echo(f"Next: uadbench datasets check {name} --root {path}")
        typer.echo(f"then: uadbench run --method mddpm --dataset {name} --root {path}")
