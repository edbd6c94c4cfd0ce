"""`uadbench datasets`: what there is, what it takes, where it lies."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.markup import escape

from uadbench.cli.catalogue import AsJson, parameters_of, print_parameters
from uadbench.cli.console import out
from uadbench.cli.data_check import check_data
from uadbench.cli.data_prepare import prepare
from uadbench.cli.run import Plugins

datasets = typer.Typer(no_args_is_help=True, help="Datasets: list, show, check, prepare.")
datasets.command("check")(check_data)
datasets.command("prepare")(prepare)


@datasets.command("list")
def list_datasets(plugin: Plugins = None, as_json: AsJson = False) -> None:
    """List all datasets: what they hold, under which licence, and where they are on this machine or how to get them."""
    from dataclasses import asdict

    from uadbench.dataset_pages import lines
    from uadbench.registry import Registry

    found = lines(Registry(plugin or ()))
    if as_json:
        typer.echo(json.dumps([asdict(line) for line in found], indent=1))
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        "name", "what", "modality", "", "masks", "subjects", "licence", "here, or how to get it", box=SIMPLE_HEAD
    )
    for line in found:
        what = (line.title or line.summary) + ("" if line.origin == "uadbench" else f" ({line.origin})")
        where = f"[green]{escape(line.where)}[/]" if line.here else escape(line.where)
        licence = line.licence.partition(";")[0].partition(". ")[0]
        table.add_row(
            line.name, escape(what), line.modality, line.dimensions, line.masks, str(line.subjects or ""),
            escape(licence), where,
        )  # fmt: skip
    out().print(table)
    typer.echo(
        "Data are looked for in $UADBENCH_DATA/<name>, in uadbench.toml ([datasets.<name>] root), or where --root says. "
        "More of one: uadbench datasets show NAME"
    )


@datasets.command("show")
def show_dataset(name: str, plugin: Plugins = None, as_json: AsJson = False) -> None:
    """Show a dataset: its card, its parameters, and where it is looked for."""
    from uadbench.config import data_folder
    from uadbench.dataset_pages import described
    from uadbench.registry import Registry

    registry = Registry(plugin or ())
    entry, cls = registry.entry("dataset", name), registry.dataset(name)
    card = cls.card
    facts: dict[str, Any] = {
        "name": name,
        "title": card.title,
        "licence": card.licence,
        "url": card.url,
        "reference": card.reference,
        "modality": list(card.modality),
        "healthy": card.healthy,
        "provides": sorted(card.provides),
        "note": card.note,
        "parameters": parameters_of(cls),
        "preparation": parameters_of(cls.preparation) if cls.preparation else [],
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    typer.echo(f"{name}: {entry.summary}")
    for text in described(cls):
        typer.echo(text)
    for key in ("title", "licence", "url", "reference", "healthy", "note"):
        if facts[key]:
            typer.echo(f"  {key}: {facts[key]}")
    typer.echo(f"  modality: {', '.join(card.modality)}")
    typer.echo(f"  offers: {', '.join(facts['provides']) or '-'}")
    if "root" in {p["name"] for p in facts["parameters"]}:
        typer.echo(f"  looked for in: --root PATH, or $UADBENCH_DATA/{name} (now {data_folder(name) or 'not set'})")
    print_parameters(facts["parameters"], "-D")
    if facts["preparation"]:
        typer.echo(f"uadbench datasets prepare {name} takes:")
        print_parameters(facts["preparation"], "-D")
