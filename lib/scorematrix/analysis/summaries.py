"""A run's results as tidy frames: one row per side, cell, comparison, gate. Missing numbers are NaN.

Units are in the column names. The figures are those of comparison.json; only units are converted here. The functions
are methods of `Run`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from scorematrix.analysis.frames import KEY

if TYPE_CHECKING:
    from scorematrix.analysis.opened import Run

CELL_FIGURES = ("items_per_second", "items_per_second_low", "items_per_second_high", "share_of_peak", "latency_p50_ms",
                "latency_p90_ms", "latency_p95_ms", "latency_p99_ms", "gflop_per_second", "flop_per_weight_byte",
                "padding_share", "peak_host_mb")  # fmt: skip
VERDICT_WORDS = {"not_enough_evidence": "undecided"}


def cells(run: Run) -> pd.DataFrame:
    """Return one row per side and chunk size, over confirmation rounds. A side without a cell has one row."""
    rows = []
    for side in run.comparison.sides:
        head = run.key_of(side)
        for cell in side.chunks:
            latency = {
                f"latency_p{p.percent}_ms": None if p.value_seconds is None else p.value_seconds * 1e3
                for p in cell.latency
            }
            rows.append(
                dict(zip(KEY, head, strict=True))
                | {
                    "chunk_size": cell.chunk_size,
                    "chosen": cell.chunk_size == side.best_chunk,
                    "status": cell.status,
                    "reason": cell.error,
                    "n_rounds": cell.n_rounds,
                    "items_per_second": cell.items_per_second,
                    "items_per_second_low": cell.items_per_second_low,
                    "items_per_second_high": cell.items_per_second_high,
                    "share_of_peak": cell.floor_fraction,
                    "gflop_per_second": _over(cell.flops_per_second, 1e9),
                    "flop_per_weight_byte": cell.flops_per_weight_byte,
                    "padding_share": cell.padding_share,
                    "peak_host_mb": _over(cell.peak_host_bytes, 1e6),
                }
                | latency
            )
        if not side.chunks:
            status = "skipped" if side.state == "skipped" else "not_run"
            rows.append(dict(zip(KEY, head, strict=True)) | {"chosen": False, "status": status, "n_rounds": 0})
    columns = [*KEY, "chunk_size", "chosen", "status", "reason", "n_rounds", *CELL_FIGURES]
    return _numeric(pd.DataFrame(rows, columns=columns), ["chunk_size", *CELL_FIGURES])


def sides(run: Run) -> pd.DataFrame:
    """Return one row per side: device, dtype, tuned choices, ceilings, accuracy, cost."""
    rows = [
        {
            **dict(zip(KEY, run.key_of(s), strict=True)),
            "state": s.state,
            "device": s.device,
            "dtype": s.dtype,
            "n_rounds": s.n_rounds,
            "chunk_size": s.best_chunk,
            "waiting": s.waiting,
            "attention": s.attention,
            "matmul_gflop_per_second": _over(s.matmul_flops_per_second, 1e9),
            "copy_gb_per_second": _over(s.copy_bytes_per_second, 1e9),
            "datasheet_bf16_gflop_per_second": _over(getattr(s.datasheet, "bfloat16_flops_per_second", None), 1e9),
            "max_difference": s.max_difference,
            "mean_difference": s.mean_difference,
            "kendall_tau_b": s.tau_b,
            "label_flips": s.label_flips,
            "auc": s.auc,
            "neighbour_effect": s.neighbours_moved,
            "chunk_effect": s.chunks_moved,
            "attention_forms": s.form_times or None,
            "tuning_configurations": s.tuning_configurations or None,
            "tuning_minutes": s.tuning_seconds / 60 or None,
            "steadiness": ", ".join(f"{n} {name}" for name, n in s.steadiness.items()) or None,
            "usd_per_million_items": s.usd_per_million_items,
            "gpu_watts": s.watts,
        }
        for s in run.comparison.sides
    ]
    not_numeric = [*KEY, "state", "device", "dtype", "waiting", "attention", "attention_forms", "steadiness"]
    return _numeric(pd.DataFrame(rows), [key for key in (rows[0] if rows else ()) if key not in not_numeric])


def verdicts(run: Run) -> pd.DataFrame:
    """Return one row per comparison. `speed_ratio`: first side's speed over the second's, with its 95 % interval.

    `tie_margin` bounds a tie; `win_margin`, which noise may widen, must be exceeded by a winner.
    """
    rows = []
    for c in run.comparison.contrasts:
        speed = c.effect.inverse if c.effect else None
        rows.append(
            {
                "comparison": c.name,
                "view": c.view,
                "first": c.first.label,
                "second": c.second.label,
                "verdict": VERDICT_WORDS.get(c.outcome, c.outcome),
                "speed_ratio": speed and speed.ratio,
                "speed_ratio_low": speed and speed.low,
                "speed_ratio_high": speed and speed.high,
                "n_pairs": c.effect.n_rounds if c.effect else 0,
                "tie_margin": run.comparison.params["margin"],
                "win_margin": c.margin,
                "p_adjusted": c.p_adjusted,
                "break_even_items": c.break_even_items,
                "reason": c.reason,
                "next_step": c.next_step,
            }
        )
    numbers = ["speed_ratio", "speed_ratio_low", "speed_ratio_high", "tie_margin", "win_margin", "p_adjusted",
               "break_even_items"]  # fmt: skip
    columns = ["comparison", "view", "first", "second", "verdict", *numbers[:3], "n_pairs", *numbers[3:], "reason"]
    return _numeric(pd.DataFrame(rows, columns=[*columns, "next_step"]), numbers)


def gates(run: Run) -> pd.DataFrame:
    """Return one row per comparison and gate: passed, failed, undecided or not_run, and its finding."""
    rows = [
        (c.name, c.view, gate.name, gate.status, gate.detail)
        for c in run.comparison.contrasts
        if c.verdict != "deferred"
        for gate in c.gates
    ]
    return pd.DataFrame(rows, columns=["comparison", "view", "gate", "status", "found"])


def matched(run: Run) -> pd.DataFrame:
    """Return one row per comparison and chunk size: the speed ratio at equal chunk sizes. Descriptive only."""
    margin = run.comparison.params["margin"]
    rows = [
        (c.name, c.view, c.first.label, c.second.label, m.chunk_size, speed.ratio, speed.low, speed.high, margin)
        for c in run.comparison.contrasts
        if c.verdict != "deferred"
        for m in c.matched
        if m.effect and (speed := m.effect.inverse)
    ]
    columns = ["comparison", "view", "first", "second", "chunk_size", "speed_ratio", "speed_ratio_low"]
    return pd.DataFrame(rows, columns=[*columns, "speed_ratio_high", "tie_margin"])


def controls(run: Run) -> pd.DataFrame:
    """Return two rows per control: a side against itself (A/A), and against itself slowed by a known share.

    `time_ratio` is the side's time over its repetition's.
    """
    rows = []
    for c in run.comparison.controls:
        for what, slowdown, effect, verdict in (
            ("A/A", None, c.itself, c.itself_verdict),
            ("slowed", c.slowdown, c.slowed, c.slowed_verdict),
        ):
            figures = (effect.ratio, effect.low, effect.high) if effect else (None, None, None)
            rows.append((c.backend, c.view, c.target, what, slowdown, verdict, *figures, c.margin))
    numbers = ["slowdown", "time_ratio", "time_ratio_low", "time_ratio_high", "margin"]
    columns = ["backends", "view", "target", "control", "slowdown", "result", *numbers[1:]]
    return _numeric(pd.DataFrame(rows, columns=columns), numbers)


def startup(run: Run) -> pd.DataFrame:
    """Return one row per side and kind of start: seconds before the first timed call."""
    rows = [
        (*run.key_of(s), start.kind, start.n_rounds, start.n_programs, start.load_seconds, start.trace_seconds,
         start.compile_seconds, start.other_seconds)
        for s in run.comparison.sides
        for start in s.starts
    ]  # fmt: skip
    parts = ["load_seconds", "trace_seconds", "compile_seconds", "other_seconds"]
    return pd.DataFrame(rows, columns=[*KEY, "kind", "n_rounds", "n_programs", *parts])


def speedups(run: Run) -> pd.DataFrame:
    """Return one row per side and baseline: the baseline's time over the side's, each at its best chunk size."""
    rows = []
    for s in run.comparison.speedups:
        figures = (s.effect.ratio, s.effect.low, s.effect.high) if s.effect else (None, None, None)
        rows.append((*run.key_of(s), run.side_name(s.baseline, s.baseline_view, s.target), *figures, s.reason))
    numbers = ["speedup", "speedup_low", "speedup_high"]
    return _numeric(pd.DataFrame(rows, columns=[*KEY, "baseline", *numbers, "reason"]), numbers)


def profile(run: Run) -> pd.DataFrame:
    """Return one row per side and part of the engine: its time in one profiled call, outside all timing."""
    rows = [
        (*run.key_of(s), s.profile.chunk_size, part.part, part.seconds * 1e3, part.share, part.n,
         _over(part.flops_per_second, 1e9), part.ceiling_fraction)
        for s in run.comparison.sides
        if s.profile
        for part in s.profile.parts
    ]  # fmt: skip
    rows += [
        (*run.key_of(s), s.profile.chunk_size, f"failed: {s.profile.error}", *([None] * 5))
        for s in run.comparison.sides
        if s.profile and s.profile.error
    ]
    numbers = ["ms", "share_of_call", "n_operations", "gflop_per_second", "share_of_peak"]
    return _numeric(pd.DataFrame(rows, columns=[*KEY, "chunk_size", "part", *numbers]), numbers)


def skips(run: Run) -> pd.DataFrame:
    """Return one row per target that could not run: the reason, the evidence, the next step."""
    rows = [
        (n.label, n.backend, ", ".join(n.views), n.reason, n.evidence, n.next_step.replace("`", ""))
        for n in run.comparison.notices
    ]
    return pd.DataFrame(rows, columns=["target", "backend", "views", "reason", "evidence", "next_step"])


def _over(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _numeric(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Convert None to NaN, even in a column of nothing else. Chunk sizes stay integers."""
    return frame.astype({name: "Int64" if name == "chunk_size" else float for name in columns})
