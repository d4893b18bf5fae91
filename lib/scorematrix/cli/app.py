"""The application, the console and the options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

import scorematrix
from scorematrix.privacy import printable, without_credentials

NOT_COPIED, BAD_INPUT, GATE_FAILED, NOTHING_RAN = 1, 2, 3, 4

ORDER = [
    "run", "report", "score", "preflight", "accelerator", "audit", "load", "serve", "provision", "models", "bundle",
    "validate", "sign",
]  # fmt: skip
"""Commands as `--help` lists them."""


class InOrder(TyperGroup):
    """Lists commands by how often they are needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in `ORDER`, then all others."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


app = typer.Typer(
    cls=InOrder,
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
DType = Annotated[str, typer.Option(help="Number format: auto, float32 or bfloat16.")]
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


def number_format(dtype: str) -> Literal["auto", "float32", "bfloat16"]:
    """Return a checked `--dtype`.

    Raises:
        ValueError: for a format that no backend computes in.
    """
    if dtype in ("auto", "float32", "bfloat16"):
        return dtype
    raise ValueError(f"dtype={dtype!r} is unknown; choose auto, float32 or bfloat16")


def device_kind(device: str) -> Literal["auto", "cpu", "gpu", "tpu"]:
    """Return a checked `--device` of a backend in this process.

    Raises:
        ValueError: for a kind of device that no backend runs on.
    """
    if device in ("auto", "cpu", "gpu", "tpu"):
        return device
    raise ValueError(f"device={device!r} is unknown; choose auto, cpu, gpu or tpu")
