"""A run's progress in JupyterLab: one output that is updated in place, without widgets."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from scorematrix.report.html import Fragment, text
from scorematrix.report.progress import status_rows
from scorematrix.results.status import RunFollower, RunStatus
from scorematrix.results.store import RunStore

LEFT = 'style="text-align:left"'
EVERY_SECONDS = 2.0
"""Time between updates: drawing takes CPU time from the measurement."""


def status_page(status: RunStatus, going_on: bool) -> Fragment:
    """Return a run's status as HTML, headed PARTIAL unless every round that can run here is recorded."""
    complete = status.total and status.done == status.total
    head = "Every round that can run here is recorded." if complete else "PARTIAL"
    head += "" if complete else ": a process is recording rounds" if going_on else ": no process is recording rounds"
    rows = "".join(
        f'<tr><th scope="row" {LEFT}>{text(name)}</th><td {LEFT}>{text(value)}</td></tr>'
        for name, value in status_rows(status)
    )
    bar = f'<progress value="{status.done}" max="{max(status.total, 1)}" aria-label="rounds done"></progress>'
    return Fragment(f'<div role="status"><p><b>{text(head)}</b> {bar}</p><table>{rows}</table></div>')


def follow_run(store: RunStore, seconds: float = 0.0) -> None:
    """Show a run's status, and update it for this many seconds or until no process records rounds any more.

    An interrupt of the kernel ends the display at once and without an error; the run goes on.
    """
    from IPython.display import display

    follower, end = RunFollower(store), time.monotonic() + seconds
    handle = display(status_page(follower.look(), going_on := store.in_use()), display_id=True)
    assert handle is not None  # because `display_id` is given
    with contextlib.suppress(KeyboardInterrupt):
        while going_on and time.monotonic() < end:
            time.sleep(min(EVERY_SECONDS, max(end - time.monotonic(), 0.0)))
            handle.update(status_page(follower.look(), going_on := store.in_use()))


@contextlib.contextmanager
def show_progress(store: RunStore) -> Iterator[None]:
    """Show the status of a run while a notebook fills it in this block."""
    from IPython.display import display

    follower, ended = RunFollower(store), threading.Event()
    handle = display(status_page(follower.look(), True), display_id=True)
    assert handle is not None  # because `display_id` is given

    def draw() -> None:
        while not ended.wait(EVERY_SECONDS):
            handle.update(status_page(follower.look(), True))

    drawer = threading.Thread(target=draw, daemon=True)
    drawer.start()
    try:
        yield
    finally:
        ended.set()
        drawer.join()
        handle.update(status_page(follower.look(), False))
