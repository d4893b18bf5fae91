"""The run's progress in the terminal: rounds done, the current one, the last figure, time left."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from scorematrix.results.frames import cell_figures
from scorematrix.results.schema import Round


class RunProgress:
    """Draws the events of `matrix.fill_run`; in a log that is no terminal, one line a round."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("checking this machine", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def __call__(self, event) -> None:
        planned = event.planned
        name = f"{planned.role} {planned.backend} {planned.view} on {planned.target}"
        self._bar.update(self._task, total=event.total, completed=event.done, description=name)
        if event.state == "end" and event.round is not None:
            self._console.print(f"[{event.done}/{event.total}] {planned.name} {planned.role}: {_figures(event.round)}")


def _figures(round_: Round) -> str:
    return ", ".join(
        f"chunk {cell.chunk_size} {cell.items_per_second:.1f} items/s"
        if cell.status == "ok"
        else f"chunk {cell.chunk_size} {cell.status}: {(cell.error or '')[:160]}"
        for cell in cell_figures(round_).itertuples()
    )
