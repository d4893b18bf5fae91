"""What all commands share: the application, the console, options that mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

BAD_INPUT, GATE_FAILED, NOTHING_RAN = 2, 3, 4

app = typer.Typer(
    help="Compare JAX and PyTorch on LLM multi-item scoring.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console(highlight=False, soft_wrap=True)

Outputs = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
Model = Annotated[str, typer.Option(help="See `scorematrix models`.")]
DType = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
Mesh = Annotated[str | None, typer.Option(help="Over several devices, data=2,model=2 say; best_native only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="key=value over the file's; repeatable.")]
Written = Annotated[Path | None, typer.Option(help="What was tried for targets that are not here, by hand (YAML).")]


def number_format(dtype: str) -> Literal["auto", "float32", "bfloat16"]:
    """What `--dtype` names.

    Raises:
        ValueError: for a format that no backend computes in.
    """
    if dtype in ("auto", "float32", "bfloat16"):
        return dtype
    raise ValueError(f"dtype={dtype!r} is unknown; choose auto, float32 or bfloat16")


def device_kind(device: str) -> Literal["auto", "cpu", "gpu", "tpu"]:
    """What `--device` names, of a backend in this process.

    Raises:
        ValueError: for a kind of device that no backend runs on.
    """
    if device in ("auto", "cpu", "gpu", "tpu"):
        return device
    raise ValueError(f"device={device!r} is unknown; choose auto, cpu, gpu or tpu")
