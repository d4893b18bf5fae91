"""The report's tables."""

from __future__ import annotations

from scorematrix.compare.gates import CEILING_SHARE
from scorematrix.compare.schema import ChunkResult, Comparison, PercentileValue, Side
from scorematrix.report.banner import STATE_WORDS
from scorematrix.report.elements import Fragment, bullets, heading, paragraph, table
from scorematrix.report.ink import NONE, lengths, milliseconds, percent, significant, small, span


def scoreboard(comparison: Comparison) -> Fragment:
    """Every side at its chosen chunk size; what has no figure says why."""
    columns = [
        "side",
        "target",
        "state",
        "chunk",
        "items/s",
        "95 % interval",
        "of floor",
        "p50 ms",
        "p90 ms",
        "p95 ms",
        "dtype",
    ]
    rows = []
    for side in comparison.sides:
        head = [f"{side.backend} {side.view}", side.target]
        best = next((c for c in side.chunks if c.chunk_size == side.best_chunk), None)
        if best is None or best.status != "ok":
            word = {"skipped": "DEFERRED", "failed": "INVALID"}.get(side.state, NONE)
            rows.append([*head, f"{word}: {_state(side)}", *([NONE] * 7), side.dtype or NONE])
            continue
        percentiles = [_latency(best, p) for p in (50, 90, 95)]
        interval = span(best.items_per_second_low, best.items_per_second_high)
        rows.append(
            [
                *head,
                _state(side),
                f"{side.best_chunk} (chosen)",
                significant(best.items_per_second),
                interval,
                percent(best.floor_fraction),
                *percentiles,
                side.dtype or NONE,
            ]
        )
    note = (
        "Latency is that of one request: all its items, one call after the other. The chunk size (items a call) was "
        "chosen on tuning rounds; the figures come from confirmation rounds. `wide`: few samples, wide interval. Of "
        "floor: the least time that the side's own matmul ceiling allows for this workload, over the time taken."
    )
    return (
        heading("Scoreboard", "scoreboard")
        + table("Throughput and latency of each side at its own best chunk size", columns, rows, words=(0, 1, 2, 10))
        + paragraph(note.replace("`", ""), "note")
    )


def chunk_table(comparison: Comparison) -> Fragment:
    """Every cell of the matrix, and the matched ratios."""
    columns = [
        "side",
        "target",
        "chunk",
        "items/s",
        "95 % interval",
        "of floor",
        "p50 ms",
        "p95 ms",
        "peak MB",
        "rounds",
    ]
    rows = []
    for side in comparison.sides:
        for cell in side.chunks:
            chosen = " (chosen)" if cell.chunk_size == side.best_chunk else ""
            row = [f"{side.backend} {side.view}", side.target, f"{cell.chunk_size}{chosen}"]
            if cell.status != "ok":
                word = "INVALID" if cell.status in ("failed", "timeout") else NONE
                rows.append([*row, f"{word}: {cell.error}", *([NONE] * 5), str(cell.n_rounds)])
                continue
            interval = span(cell.items_per_second_low, cell.items_per_second_high)
            rows.append(
                [
                    *row,
                    significant(cell.items_per_second),
                    interval,
                    percent(cell.floor_fraction),
                    _latency(cell, 50),
                    _latency(cell, 95),
                    significant(None if cell.peak_host_bytes is None else cell.peak_host_bytes / 1e6),
                    str(cell.n_rounds),
                ]
            )
    matched = [
        [
            f"{c.name}, {c.view}",
            str(row.chunk_size),
            significant(row.effect.ratio) if row.effect else NONE,
            span(row.effect.low, row.effect.high) if row.effect else row.reason or NONE,
        ]
        for c in comparison.contrasts
        if c.verdict != "deferred"
        for row in c.matched
    ]
    caption = "Every chunk size; peak: resident host memory beyond the loaded model, the most of any round"
    return table(caption, columns, rows, words=(0, 1)) + table(
        "JAX time over PyTorch time at the same chunk size (below 1, JAX is faster; descriptive only)",
        ["comparison", "chunk", "ratio", "95 % interval"],
        matched,
    )


def speedup_table(comparison: Comparison) -> Fragment:
    """How much faster each side is than what one could install instead; nothing where no baseline was planned."""
    if not comparison.speedups:
        return Fragment("")
    rows = [
        [
            f"{s.backend} {s.view}",
            f"{s.baseline} {s.baseline_view}",
            s.target,
            significant(s.effect.ratio) if s.effect else f"{NONE}: {s.reason}",
            span(s.effect.low, s.effect.high) if s.effect else NONE,
        ]
        for s in comparison.speedups
    ]
    caption = "Baseline time over the side's time, each at its own best chunk size (above 1, the side is faster)"
    return table(caption, ["side", "baseline", "target", "speed-up", "95 % interval"], rows, words=(0, 1, 2))


def gates(comparison: Comparison) -> Fragment:
    """Each gate of each contrast, passed or not, with what was found."""
    rows = [
        [gate.name, f"{contrast.name}, {contrast.view}", gate.status.upper().replace("_", " "), gate.detail]
        for contrast in comparison.contrasts
        for gate in contrast.gates
    ]
    note = "No verdict stands unless every gate of its comparison has passed."
    return (
        heading("Gates", "gates")
        + paragraph(note)
        + table(
            "What both sides must meet before a time may decide",
            ["gate", "comparison", "status", "found"],
            rows,
            words=(0, 1, 2, 3),
        )
    )


def accuracy_table(comparison: Comparison) -> Fragment:
    """Distance from the float32 reference, and how well the answers fit the gold labels."""
    columns = ["side", "target", "dtype", "mean difference", "largest difference", "AUC against gold"]
    rows = [
        [
            f"{s.backend} {s.view}",
            s.target,
            s.dtype or NONE,
            small(s.mean_difference),
            small(s.max_difference),
            significant(s.auc),
        ]
        for s in comparison.sides
    ]
    return table(
        "Probabilities against one float32 sequence per item (Hugging Face transformers)",
        columns,
        rows,
        words=(0, 1, 2),
    )


def compile_table(comparison: Comparison) -> Fragment:
    """What is paid once, before the first request."""
    columns = ["side", "target", "programs", "from cache", "prepare s"]
    rows = [
        [
            f"{s.backend} {s.view}",
            s.target,
            str(s.n_programs) if s.compile_seconds is not None else NONE,
            str(s.from_cache) if s.compile_seconds is not None else NONE,
            significant(s.compile_seconds),
        ]
        for s in comparison.sides
    ]
    return table("Compiling, in the round where it took longest", columns, rows, words=(0, 1))


def ceilings_table(comparison: Comparison) -> Fragment:
    """What the hardware gave each side at best, in the same session."""
    columns = ["side", "target", "dtype", "matmul GFLOP/s", "copy GB/s"]
    rows = [
        [
            f"{s.backend} {s.view}",
            s.target,
            s.dtype or NONE,
            significant(None if s.matmul_flops_per_second is None else s.matmul_flops_per_second / 1e9),
            significant(None if s.copy_bytes_per_second is None else s.copy_bytes_per_second / 1e9),
        ]
        for s in comparison.sides
    ]
    caption = "Ceilings: the fastest square matrix product and a copy, measured through each framework in tuning rounds"
    return table(caption, columns, rows, words=(0, 1, 2))


def methods(comparison: Comparison) -> Fragment:
    """How it was measured, in short."""
    p, w = comparison.params, comparison.workload
    softmax = "softmax over the labels" if w.apply_softmax else "probability over the whole vocabulary"
    lines = [
        f"Workload {w.name}: {w.n_requests} queries of {lengths(w.query_tokens)} tokens, {w.n_items} items of "
        f"{lengths(w.item_tokens)} tokens, {softmax}. {w.origin}.",
        f"Model {p['model']}; the same weights and token ids on both sides, checked by hash.",
        f"A round is one fresh process that measures one side; {p['tuning_rounds']} tuning and {p['rounds']} "
        f"confirmation rounds a side. Sides that share a device run back to back, the order drawn per pair from seed "
        f"{p['seed']}.",
        f"In a round, every chunk size: {p['warmup_passes']} warm-up and {p['passes']} timed passes over all requests. "
        "A time runs from host token ids to host float32 scores (perf_counter_ns); tokenizing and compiling are "
        "not in it.",
        "Effect: geometric mean over confirmation rounds of the ratio of median pass times, 95 % interval by paired t. "
        f"Margin {p['margin']:.0%}: an interval wholly beyond it names a winner, wholly inside it a tie.",
        "With several contrasts in a run, a winner is named only where its effect survives Holm's correction over all "
        f"of them. A pass that would beat {CEILING_SHARE:g} times the measured matmul ceiling voids its contrast.",
        _prefix_reuse(p.get("reuse_prefix", 0)),
        "The chunk size of each side is chosen on tuning rounds and estimated on confirmation rounds. No outlier is "
        "dropped. Percentiles are shown only with samples enough, pooled over at least 5 rounds.",
    ]
    for side in comparison.sides:
        if side.precision:
            extra = f" Fallbacks: {'; '.join(side.fallbacks)}." if side.fallbacks else ""
            lines.append(f"{side.backend} {side.view} on {side.device}: {side.precision}.{extra}")
    limits = [
        "The verdict holds for this model, this workload and this machine; other shapes may turn it.",
        "Not judged in this version: tuning effort, pipelined throughput apart from latency, break-even of compiling, "
        "steadiness after warm-up, whether time grows with the work, repeats of a query, throttling, other processes "
        "on the device, A/A and known-slowdown controls, energy and cost, load on live servers.",
    ]
    return (
        heading("Methods", "methods")
        + bullets(lines)
        + heading("What this does not show", "limits", 3)
        + bullets([*limits, *comparison.warnings])
    )


def reproduce(comparison: Comparison, commit: str | None) -> Fragment:
    """Commands and hashes."""
    rows = [
        ["commit", commit or NONE],
        ["params sha256", comparison.params_sha256],
        ["workload sha256", comparison.workload.sha256],
        ["weights sha256", comparison.weights_sha256 or NONE],
        ["measure again", f"scorematrix run params/{comparison.params['name']}.yaml --run-id NEW --report"],
        ["read this run again", f"scorematrix report {comparison.run_id}"],
    ]
    return heading("Reproduce", "reproduce") + table("What was run", ["what", "value"], rows, words=(0, 1))


def verdict_table(comparison: Comparison) -> list[list[str]]:
    """Verdicts as rows of plain text, for Markdown."""
    rows = []
    for c in comparison.contrasts:
        effect = f"{significant(c.effect.ratio)} ({span(c.effect.low, c.effect.high)})" if c.effect else NONE
        rows.append([c.name, c.view, STATE_WORDS[c.verdict], effect, c.reason])
    return rows


def _prefix_reuse(n_queries: int) -> str:
    if not n_queries:
        return "Nothing is kept between calls: every call computes its query anew."
    return (
        f"Prefix reuse, as asked for: best_native views keep the keys and values of the last {n_queries} queries, so "
        "calls with the same query do not compute it again, and a share of the floor may exceed 100 %."
    )


def _state(side: Side) -> str:
    if side.state == "measured":
        return "measured"
    return {
        "partial": f"{side.n_rounds} of {side.n_rounds_planned} rounds",
        "skipped": "skipped, see the banner",
        "not_started": "no round yet",
        "failed": "every cell failed",
    }[side.state]


def _latency(cell: ChunkResult, percent: int) -> str:
    found: PercentileValue | None = next((p for p in cell.latency if p.percent == percent), None)
    if found is None or found.state == "suppressed":
        return f"{NONE} (n={found.n if found else 0})"
    return milliseconds(found.value_seconds) + (" wide" if found.state == "wide" else "")
