"""The appendix, collapsed: every cell, every timed pass, and the conditions of every round."""

from __future__ import annotations

from collections.abc import Sequence

from scorematrix.compare.schema import ChunkResult, Comparison, PercentileValue, Side
from scorematrix.report.formatting import NONE, milliseconds, percent, significant, span
from scorematrix.report.html import Fragment, details, heading, paragraph, table
from scorematrix.results import Round
from scorematrix.results.figures import pass_seconds


def appendix(comparison: Comparison, rounds: Sequence[Round]) -> Fragment:
    """Return the section. Each part opens separately, or when a link leads into it."""
    parts = details("Every cell", "cells", chunk_table(comparison))
    for side in comparison.sides:
        parts += details(f"Raw samples: {side.name} on {side.target}", samples_anchor(side),
                         samples(side, rounds))  # fmt: skip
    parts += details("Rounds: start times, load and interference", "rounds", rounds_table(rounds))
    parts += details("Backends as they describe themselves", "settings", settings(rounds))
    return heading("Appendix", "appendix") + parts + details("Machines and software", "software", software(rounds))


def samples_anchor(side: Side) -> str:
    """Return the anchor of a side's raw samples."""
    return f"samples-{side.backend}-{side.view}-{side.target}"


def samples(side: Side, rounds: Sequence[Round]) -> Fragment:
    """Return the seconds of every pass of a side, by round and chunk size."""
    rows = []
    for round_ in rounds:
        if (round_.backend, round_.view, round_.target) != side.key:
            continue
        for cell in round_.cells:
            slowed = f", slowed by {cell.slowdown - 1:.0%}" if cell.slowdown > 1 else ""
            passes, warm = pass_seconds(cell.call_ns), pass_seconds(cell.warmup_ns)
            rows.append(
                [
                    f"{round_.role} {round_.index}",
                    str(round_.position),
                    f"{cell.chunk_size}{slowed}",
                    " ".join(significant(s, 4) for s in passes)
                    or f"{NONE}: {cell.status}, {cell.error or 'no sample'}",
                    " ".join(significant(s, 4) for s in warm) or NONE,
                    str(cell.compiles_in_window),
                ]
            )
    if not rows:
        return paragraph("No round of this side is recorded.", "note")
    columns = ["round", "position in the run", "chunk", "seconds of each timed pass", "seconds of each warm-up pass"]
    caption = "Raw samples. Compiles: programs compiled inside a timed window"
    return table(caption, [*columns, "compiles"], rows, text_columns=(0, 2))


def chunk_table(comparison: Comparison) -> Fragment:
    """Return every cell of the matrix, and the time ratios at equal chunk sizes."""
    columns = ["side", "target", "chunk", "items/s", "95 % interval", "of peak", "MFU", "padding", "p50 ms", "p95 ms"]
    columns += ["peak MB", "rounds"]
    rows = []
    for side in comparison.sides:
        for cell in side.chunks:
            chosen = " (chosen)" if cell.chunk_size == side.best_chunk else ""
            row = [side.name, side.target, f"{cell.chunk_size}{chosen}"]
            if cell.status != "ok":
                word = "INVALID" if cell.status in ("failed", "timeout") else NONE
                rows.append([*row, f"{word}: {cell.error}", *([NONE] * 7), str(cell.n_rounds)])
                continue
            rows.append(
                [
                    *row,
                    significant(cell.items_per_second),
                    span(cell.items_per_second_low, cell.items_per_second_high),
                    percent(cell.floor_fraction),
                    percent(cell.mfu),
                    percent(cell.padding_share),
                    _latency(cell, 50),
                    _latency(cell, 95),
                    significant(None if cell.peak_host_bytes is None else cell.peak_host_bytes / 1e6),
                    str(cell.n_rounds),
                ]
            )
        if not side.chunks:
            state = "DEFERRED: skipped, see the banner" if side.state == "skipped" else NONE
            rows.append([side.name, side.target, NONE, state, *([NONE] * 8)])
    matched = [
        [
            f"{c.name}, {c.view}",
            c.ratio_name,
            str(row.chunk_size),
            significant(row.effect.ratio) if row.effect else NONE,
            span(row.effect.low, row.effect.high) if row.effect else row.reason or NONE,
        ]
        for c in comparison.contrasts
        if c.verdict != "deferred"
        for row in c.matched
    ]
    note = (
        "MFU: operations for the real tokens (the query counted once per call), divided by time and by the side's "
        "measured matmul peak. Padding: share of the computed tokens. Peak: most host memory that any round used "
        "beyond the loaded model."
    )
    return (
        table("Every chunk size", columns, rows, text_columns=(0, 1))
        + paragraph(note, "note")
        + table(
            "Time ratio at the same chunk size (below 1, the first side is faster; descriptive only)",
            ["comparison", "ratio of", "chunk", "ratio", "95 % interval"],
            matched,
        )
    )


def rounds_table(rounds: Sequence[Round]) -> Fragment:
    """Return when each round started, and the load, interference and clock rates around it."""
    rows = []
    for r in rounds:
        noise = r.noise
        mhz = " to ".join(significant(m) for m in noise.cpu_mhz) if noise and noise.cpu_mhz else NONE
        rows.append(
            [
                r.name,
                r.role,
                str(r.position),
                r.started_utc,
                significant(r.environment.load_average) if r.environment else NONE,
                percent(noise.others_share) if noise else NONE,
                percent(noise.stolen_share) if noise else NONE,
                mhz,
                NONE if noise is None or noise.throttle_events is None else str(noise.throttle_events),
                r.error or "",
            ]
        )
    if not rows:
        return paragraph("No round is recorded.", "note")
    columns = ["round", "role", "position", "started (UTC)", "load before", "CPU used by others", "CPU stolen", "MHz"]
    return table("Every round", [*columns, "thermal throttle events", "error"], rows, text_columns=(0, 1, 3, 9))


def settings(rounds: Sequence[Round]) -> Fragment:
    """Return the settings that each loaded backend reports, including the mesh of a sharded view."""
    rows: list[list[str]] = []
    for r in rounds:
        if r.record is None:
            continue
        reported = ", ".join(f"{name}={value}" for name, value in r.record.settings.items()) or NONE
        fallbacks = "; ".join(r.record.fallbacks) or NONE
        row = [f"{r.backend} {r.view}", r.target, r.record.device, r.record.precision, reported, fallbacks]
        if row not in rows:
            rows.append(row)
    if not rows:
        return paragraph("No round recorded its backend's settings.", "note")
    columns = ["side", "target", "device", "precision", "settings", "fallbacks"]
    return table("Settings of the rounds", columns, rows, text_columns=range(len(columns)))


def software(rounds: Sequence[Round]) -> Fragment:
    """Return every combination of machine, packages, variables and commit that rounds ran on, one column each."""
    known: dict[str, list[str]] = {}
    for r in rounds:
        if r.environment is None:
            continue
        e = r.environment
        packages = ", ".join(f"{name} {version}" for name, version in sorted(e.packages.items()))
        variables = ", ".join(f"{key}={value}" for key, value in sorted(e.variables.items())) or "none set"
        commit = f"{e.git_commit or NONE}{' with local changes' if e.git_dirty else ''}"
        machine = f"{e.cpu}, {e.n_cores} cores, on {len(e.affinity)} of them, {e.memory_bytes / 1e9:.0f} GB"
        key = "|".join([e.machine_sha256, machine, e.platform, e.python, packages, variables, commit])
        known.setdefault(key, [e.machine_sha256[:12], machine, e.platform, e.python, packages, variables, commit])
    if not known:
        return paragraph("No round recorded its machine.", "note")
    names = ["machine (hash)", "hardware", "platform", "Python", "packages", "variables", "commit"]
    rows = [[name, *(values[i] for values in known.values())] for i, name in enumerate(names)]
    columns = ["property", *(f"environment {i + 1}" for i in range(len(known)))]
    return table("Machines and software of the rounds", columns, rows, text_columns=range(len(columns)))


def _latency(cell: ChunkResult, percent: int) -> str:
    """Return a percentile in milliseconds, or the sample count if it is too small."""
    value: PercentileValue | None = next((p for p in cell.latency if p.percent == percent), None)
    if value is None or value.state == "suppressed":
        return f"{NONE}: {value.n if value else 0} samples"
    return milliseconds(value.value_seconds) + (" (few samples)" if value.state == "wide" else "")
