"""A run's progress: a line per round, and on a terminal a live block: done, now, time left, last figure."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from scorematrix.report.formatting import significant
from scorematrix.results.figures import cell_figures
from scorematrix.results.schema import Round
from scorematrix.results.status import LastFigure, RunFollower, RunStatus
from scorematrix.results.store import RunStore


class RunProgress:
    """Shows the events of `matrix.fill_run`. A log that is no terminal gets one line per round and nothing else."""

    def __init__(self, console: Console, store: RunStore) -> None:
        self._console = console
        self._follower = RunFollower(store)
        self._under_way: dict[str, str] = {}
        self._begun = time.monotonic()
        # Once per second: drawing takes CPU time from the measurement.
        self._live = Live(get_renderable=self._drawn, console=console, refresh_per_second=1, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_interactive:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.stop()

    def __call__(self, event) -> None:
        planned = event.planned
        if event.state == "begin":
            self._under_way[planned.name] = event.note
            return
        self._under_way.pop(planned.name, None)
        if event.state == "end" and event.round is not None:
            where = f" on {event.note}" if event.note else ""
            head = f"[{event.done}/{event.total}] {planned.name} {planned.role}{where}"
            tries = ", ".join(one.outcome for one in event.round.tries)
            again = f" (measured again; before: {tries})" if tries else ""
            self._console.print(f"{head}: {_figures(event.round)}{again}")
        elif event.state == "lost":
            self._console.print(f"{planned.name} {event.note}")

    def _drawn(self) -> RenderableType:
        elsewhere = [("on", f"{where}: {name}") for name, where in list(self._under_way.items()) if where]
        status = self._follower.look().side_by_side(max(len(elsewhere), 1))
        begun = span_words(time.monotonic() - self._begun)
        rows = Table.grid(padding=(0, 1))
        rows.add_row("", ProgressBar(total=max(status.total, 1), completed=status.done, width=40))
        for name, value in [*status_rows(status), *elsewhere, ("started", f"{begun} ago")]:
            rows.add_row(Text(name, style="bold"), Text(value, no_wrap=True, overflow="ellipsis"))
        return rows


def status_rows(status: RunStatus) -> list[tuple[str, str]]:
    """Return a run's status as (name, value) rows."""
    rows = [("done", f"{status.done} of {status.total} rounds" if status.total else "looking at this machine")]
    if status.current is not None:
        p = status.current
        now = f"{p.role} {p.backend} {p.view} on {p.target}, round {p.index}: "
        if len(status.together) > 1:
            now = f"{p.role} {p.view} on {p.target}, round {p.index}: {', '.join(sorted(status.together))} in turns"
        elif status.measuring is not None:
            now += f"chunk {status.measuring}, {status.cells_done} of {status.cells} cells done"
        else:
            now += "starting, loading, compiling"
        rows += [("now", now), ("left", left_words(status))]
    return [*rows, ("last", last_words(status.last))] if status.last else rows


def left_words(status: RunStatus) -> str:
    """Return the time left, or that it is unknown."""
    if status.seconds_left is None:
        return "unknown: no round of these kinds has been measured yet"
    most = "at most " if status.may_end_early and not status.unknown_rounds else ""
    if not status.unknown_rounds:
        return f"{most}about {span_words(status.seconds_left)}"
    few = "1 round" if status.unknown_rounds == 1 else f"{status.unknown_rounds} rounds"
    return f"more than {span_words(status.seconds_left)}: {few} of kinds not measured yet"


def last_words(last: LastFigure) -> str:
    """Return the newest round's figure and the other side's, and say that one round each gives no verdict."""
    name = f"{last.backend} {last.view}"
    if last.items_per_second is None:
        return f"{name}: {(last.trouble or '')[:160]}"
    figure = f"{name} {significant(last.items_per_second)} items/s at chunk {last.chunk}"
    if last.other_items_per_second is None:
        return figure
    return f"{figure}, {last.other} {significant(last.other_items_per_second)}; one round each, no verdict"


def span_words(seconds: float) -> str:
    """Return a duration in seconds, minutes, or hours and minutes."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _figures(round_: Round) -> str:
    return ", ".join(
        f"chunk {cell.name} {cell.items_per_second:.1f} items/s"
        if cell.items_per_second is not None
        else f"chunk {cell.name} {cell.status}: {(cell.error or '')[:160]}"
        for cell in cell_figures(round_)
    )
