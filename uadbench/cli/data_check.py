"""`uadbench datasets check`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uadbench.cli.catalogue import AsJson, name_or_file, report_checks
from uadbench.cli.console import TerminalReporter
from uadbench.cli.run import Plugins, data_texts
from uadbench.config import check_names
from uadbench.errors import DataError, UsageError

if TYPE_CHECKING:
    from uadbench.dataset import Dataset
    from uadbench.findings import Finding


def check_data(
    name: Annotated[str | None, typer.Argument(help="Name of a dataset, or the file of a plug-in.")] = None,
    data: Annotated[list[str] | None, typer.Option("--data", "-D", help="key=value; repeatable.")] = None,
    root: Annotated[Path | None, typer.Option(help="Where the data lie.")] = None,
    modality: Annotated[
        str | None, typer.Option(help="Which modality, or several joined with +; the same as --data modality=...")
    ] = None,
    healthy: Annotated[
        str | None, typer.Option(help="Dataset whose healthy people are used with these, such as ixi.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Splits, files and headers only.")] = False,
    splits: Annotated[
        list[Path] | None,
        typer.Option(
            "--splits", help="Check split tables instead, without images: a folder of CSV files, or one; repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Look for everything that can be wrong with data: leaks, files, geometry, content; then run the adapter's contract."""
    if splits:
        if name or data or root or modality or healthy or quick:
            raise UsageError("--splits looks at tables only; leave out the dataset's name and its options")
        _check_tables(splits, as_json)
        return
    if not name:
        raise UsageError("give the name of a dataset (see: uadbench datasets list), or --splits FOLDER")
    from uadbench.joined import joined_name
    from uadbench.opening import open_dataset

    name, registry = name_or_file("dataset", name, plugin)
    name = joined_name(name, healthy)
    check_names("datasets", registry.entries("dataset"))
    dataset, _ = open_dataset(registry, name, data_texts(data, root, modality))
    report_data(dataset, name, quick=quick, as_json=as_json)


def report_data(dataset: Dataset, name: str, *, quick: bool, as_json: bool) -> None:
    """Check a dataset, print what was found, and exit with 3 if there is an error, 1 if the contract is broken."""
    from uadbench.contract import dataset_checks
    from uadbench.data_checks import check_everything
    from uadbench.findings import counted

    subjects = dataset.subjects()
    total, people = len(subjects), len({s.id for s in subjects})
    with TerminalReporter().bar("subjects", total) as advance:
        found = check_everything(dataset, name, quick=quick, advance=advance)
    stop = any(f.severity == "error" for f in found)
    if as_json:
        contract = [] if quick or stop else [vars(check) for check in dataset_checks(dataset)]
        _print_json({"dataset": name, "subjects": total, "people": people, "quick": quick, "contract": contract}, found)
        stop_if(found)
        if any(check["outcome"] == "broken" for check in contract):
            raise typer.Exit(1)
        return
    _print_findings(found)
    size = counted(total, "subjects") if people == total else f"{counted(people, 'people')} in {total} entries"
    typer.echo(f"{name}, {size}: {_summary(found)}")
    stop_if(found)
    if not quick:
        report_checks(name, dataset_checks(dataset))


def stop_if(found: Iterable[Finding]) -> None:
    """Exit with 3 if there is an error."""
    if any(f.severity == "error" for f in found):
        raise typer.Exit(DataError.exit_code)


def _check_tables(places: Sequence[Path], as_json: bool) -> None:
    from uadbench.findings import counted
    from uadbench.table_checks import check_tables

    found, tables, left = check_tables(places)
    if as_json:
        facts = [
            {"file": str(t.path), "set": t.group, "stage": t.stage, "fold": t.fold, "rows": len(t.people)}
            for t in tables
        ]
        _print_json({"tables": facts, "left_out": [str(path) for path in left]}, found)
    else:
        _print_findings(found)
        for path in left:
            typer.echo(f"left out: {path} (no train, val or test in its name; searched for repeated rows only)")
        typer.echo(f"{counted(len(tables), 'tables')}: {_summary(found)}")
    stop_if(found)


def _print_findings(found: Sequence[Finding]) -> None:
    for severity in ("error", "warning"):
        some = [f for f in found if f.severity == severity]
        if some:
            typer.echo(f"{severity}s:")
        for one in some:
            typer.echo(f"  {one}")


def _print_json(facts: dict[str, Any], found: Sequence[Finding]) -> None:
    counts = {f"{s}s": sum(f.severity == s for f in found) for s in ("error", "warning")}
    typer.echo(json.dumps({**facts, **counts, "findings": [f.as_dict() for f in found]}, indent=1, ensure_ascii=False))


def _summary(found: Sequence[Finding]) -> str:
    if not found:
        return "nothing is wrong"
    from uadbench.findings import counted

    return ", ".join(counted(sum(f.severity == s for f in found), f"{s}s") for s in ("error", "warning"))
