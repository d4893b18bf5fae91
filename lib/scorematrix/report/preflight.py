"""What the preflight and round notebooks show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from scorematrix.report.elements import Fragment, bullets, paragraph, table
from scorematrix.report.ink import NONE, milliseconds, significant
from scorematrix.results.figures import cell_figures
from scorematrix.results.schema import PlannedRound, Round
from scorematrix.results.targets import Readiness


def readiness_page(readiness: Readiness) -> Fragment:
    """Every (target, backend): ready, or skipped, why, and what to do."""
    rows = [
        [
            s.label,
            s.backend,
            ", ".join(s.views),
            "ready" if s.state == "ready" else f"SKIPPED: {s.reason}",
            s.evidence,
            s.next_step or "",
        ]
        for s in readiness.states
    ]
    columns = ["target", "backend", "views", "state", "evidence", "next step"]
    return table(f"Readiness of {readiness.machine}", columns, rows, words=range(6))


def plan_summary(plan: Sequence[PlannedRound], readiness: Readiness) -> Fragment:
    """How many rounds of each kind will run here, and how many wait for another machine."""
    counts: Counter[tuple[str, ...]] = Counter()
    for planned in plan:
        state = readiness.state(planned.target, planned.backend)
        here = "runs here" if state is not None and state.state == "ready" else "SKIPPED here"
        counts[planned.backend, planned.view, planned.target, planned.role, here] += 1
    rows = [[*key, str(n)] for key, n in counts.items()]
    return table("Rounds of the plan", ["backend", "view", "target", "role", "state", "rounds"], rows, words=range(5))


def round_page(round_: Round) -> Fragment:
    """A round's figures by chunk size, and what it was measured on."""
    rows = [
        [
            cell.name,
            "ok",
            significant(cell.items_per_second),
            milliseconds(cell.median_request_seconds),
            str(cell.n_requests),
        ]
        if cell.items_per_second is not None
        else [cell.name, f"{cell.status}: {cell.error}", NONE, NONE, NONE]
        for cell in cell_figures(round_)
    ]
    columns = ["chunk", "status", "items/s", "median ms a request", "requests timed"]
    page = table(f"Round {round_.name} ({round_.role})", columns, rows, words=(0, 1))
    if round_.error:
        page += paragraph(f"The round failed: {round_.error}")
    if round_.record and round_.setup:
        compiles = round_.setup.compiles
        cached = sum(c.from_cache for c in compiles)
        page += bullets(
            [
                f"{round_.backend} {round_.view} on {round_.record.device}, {round_.record.precision}",
                f"model read in {significant(round_.setup.load_model_seconds)} s, placed in "
                f"{significant(round_.setup.load_backend_seconds)} s, prepared in "
                f"{significant(round_.setup.prepare_seconds)} s ({len(compiles)} programs, {cached} from the cache)",
            ]
        )
    return page
