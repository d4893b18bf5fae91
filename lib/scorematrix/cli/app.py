"""The application, the console and the options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

import scorematrix
from scorematrix.privacy import printable, without_credentials

NOT_COPIED, BAD_INPUT, GATE_FAILED, NOTHING_RAN = 1, 2, 3, 4

app = typer.Typer(
    help="Compare JAX and PyTorch on LLM multi-item scoring.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class PlainConsole(Console):
    """A console that prints neither control characters nor credentials: texts may come from servers and files."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a text, as every print and every cell of a table does."""
        return super().render_str(without_credentials(printable(text)), **options)


out = PlainConsole(highlight=False, soft_wrap=True)

Outputs = Annotated[Path, typer.Option(help="Folder with the runs.")]
Model = Annotated[str, typer.Option(help="Model name, see `scorematrix models`.")]
DType = Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Number format.")]
Device = Annotated[Literal["auto", "cpu", "gpu", "tpu"], typer.Option(help="Kind of device.")]
Mesh = Annotated[str | None, typer.Option(help="Spread over devices, e.g. data=2,model=2. View best_native only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a key of the file: key=value. Repeatable.")]
Written = Annotated[Path | None, typer.Option(help="YAML file with provisioning attempts that were made by hand.")]


def _show_version(requested: bool) -> None:
    if requested:
        print(f"scorematrix {scorematrix.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Compare JAX and PyTorch on LLM multi-item scoring."""
