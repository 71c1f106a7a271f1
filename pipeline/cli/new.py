"""`penstock new DIR`: writes a small project that runs as it is, to be made one's own."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click

TEMPLATE = ".template"
"""Ends the names of the files in `project/`, so that no tool takes them for code of this package."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
def new(folder: Path) -> None:
    """Write a small project into DIR: a configuration, a strategy, a stage and a few words about them.

    A folder with something in it is left alone.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise click.ClickException(
            f"{folder} exists already and is not empty; nothing was written. Name another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in project().items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise click.ClickException(f"cannot write to {folder}: {error.strerror}") from error
    click.echo(f"wrote {', '.join(project())} to {folder}")
    click.echo(f"run it: penstock run {folder / 'backtest.yaml'}")


def project() -> dict[str, str]:
    """File name -> content of what is written."""
    templates = files(__package__) / "project"
    found = sorted(templates.iterdir(), key=lambda item: item.name)
    return {
        item.name.removesuffix(TEMPLATE): item.read_text(encoding="utf-8")
        for item in found
        if item.name.endswith(TEMPLATE)
    }
