"""How it was measured, what that does not show, and how to do it again."""

from __future__ import annotations

from scorematrix.compare.schema import Comparison
from scorematrix.compare.steady import LEAST_PASSES
from scorematrix.compare.timing import CEILING_SHARE
from scorematrix.report.elements import Fragment, bullets, heading, table
from scorematrix.report.ink import NONE, lengths


def _in_turns(comparison: Comparison) -> bool:
    return any(contrast.in_turns for contrast in comparison.contrasts)


def _order(comparison: Comparison) -> str:
    seed = comparison.params["seed"]
    if not _in_turns(comparison):
        return f"Sides that share a device run back to back, the order drawn per pair from seed {seed}."
    return (
        "Sides that share a device, and the control, are alive at the same time and measure in turns of one request, "
        f"each waiting without using a core while another measures; orders are drawn from seed {seed}, and each is "
        "followed by its reverse. Turns during which other processes took more than "
        f"{comparison.params.get('disturbed_share', 0.05):.0%} of a core are marked, and left out where enough others "
        "are there. Except in tuning rounds, the sides load and compile side by side: starting times include that."
    )


def _pair(comparison: Comparison) -> str:
    if not _in_turns(comparison):
        return "A pair's ratio is that of its median pass times."
    return (
        "A pair's ratio is the Hodges-Lehmann estimate over neighbouring turns; where there are none, that of median "
        "pass times."
    )


LIES = (
    "What no measurement here can tell: a backend that recognises this benchmark by its shapes; a handicap hidden in "
    "one side's own process or flags; clocks forged in every process of the machine; load that another virtual machine "
    "puts on the same hardware only during one side's turns. Clock checks allow a few milliseconds per turn, so "
    "the times of very short turns can be wrong by a large share.",
    "Hashes tell a damaged file from a whole one. They do not tell files that somebody made up.",
)
"""Ways to deceive that nothing in a run would show."""


def _second_stopwatch(comparison: Comparison) -> list[str]:
    if not _in_turns(comparison):
        return []
    return [
        "Whoever hands out the turns times them too: a process whose clocks contradict this is refused, and so is one "
        "that uses more cores than on record, and a contrast beside whose sides other processes were not equally busy.",
        "Every third lap has tokens drawn from the system's randomness while the run goes on, alike for all sides: "
        "their scores must agree between the sides and, on sampled items, with the reference, and their time with that "
        "of the workload's own. What prepares a program gets other tokens than those that are timed.",
    ]


def methods(comparison: Comparison) -> Fragment:
    """How it was measured, in short."""
    p, w = comparison.params, comparison.workload
    softmax = "softmax over the labels" if w.apply_softmax else "probability over the whole vocabulary"
    lines = [
        f"Workload {w.name}: {w.n_requests} queries of {lengths(w.query_tokens)} tokens, {w.n_items} items of "
        f"{lengths(w.item_tokens)} tokens, {softmax}. {w.origin}.",
        f"Model {p['model']}; the same weights and token ids on both sides, checked by hash.",
        f"A round is one fresh process that measures one side; {p['tuning_rounds']} tuning and {p['rounds']} "
        f"confirmation rounds a side. {_order(comparison)}",
        f"In a round, every chunk size: {p['warmup_passes']} warm-up passes and at least {p['passes']} timed ones over "
        "all requests. A time runs from host token ids to host float32 scores (perf_counter_ns); tokenizing and "
        "compiling are not in it.",
        f"Effect: geometric mean over pairs of confirmation rounds, 95 % interval by paired t. {_pair(comparison)} "
        f"Margin {p['margin']:.0%}: an interval wholly beyond it names a winner, wholly inside it a tie.",
        _looks(comparison),
        "With several contrasts in a run, a winner is named only where its effect survives Holm's correction over all "
        "of them.",
        f"Times are held against the hardware and the work: no pass may beat {CEILING_SHARE:g} times the measured "
        "matmul ceiling, a call with more work must take longer, a repeated query must not be more than 10 % faster "
        "than a new one, no timed window may be shorter than 1 ms, nothing may compile while the clock runs.",
        *_second_stopwatch(comparison),
        "Latency is one call after the other, and items/s is its inverse: one call in flight on both sides, none "
        "queued behind it. Throughput with several calls in flight is another number and is not given.",
        _controls(comparison),
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
        "A run does not know of other runs that were made and not shown: look for its params' hash and seed.",
        *LIES,
        "Not judged in this version: pipelined throughput apart from latency. Load on live servers is shown; no "
        "verdict rests on it.",
    ]
    if comparison.params.get("prices") is None or not comparison.params["prices"]:
        limits.append("No cost: the params give no price with a source and a date.")
    if not any(side.steadiness for side in comparison.sides):
        limits.append(f"Steadiness after warm-up is not tested: that takes {LEAST_PASSES} timed passes a cell.")
    if all(side.watts is None for side in comparison.sides):
        limits.append("Energy is not measured: only NVIDIA GPUs tell it.")
    return (
        heading("Methods", "methods")
        + bullets(lines)
        + heading("What this does not show", "limits")
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


def _looks(comparison: Comparison) -> str:
    looks = comparison.looks
    if len(looks) < 2:
        return f"A verdict falls once, when all {comparison.params['rounds']} confirmation rounds are recorded."
    counts = ", ".join(map(str, looks))
    return (
        f"A verdict may fall at {counts} confirmation rounds, counts fixed beforehand. Each look has its share, one in "
        f"{len(looks)}, of the 5 % by which all may err together (Bonferroni), so its intervals are wider; 95 % holds "
        "over all looks."
    )


def _controls(comparison: Comparison) -> str:
    if not comparison.controls:
        return "Controls were not measured."
    return (
        "Controls: in every confirmation round, one more fresh process repeats one side, unchanged and slowed by 5 %. "
        "The sides alternate, and their ratios are pooled. A control fails if its 99 % interval shows a difference "
        "from itself, or misses the slowdown. A failed control voids all verdicts of its target. The decision margin "
        "is at least the largest bias that the 95 % A/A interval allows. A control in another view widens the margin "
        "to at most the half-width of the contrast's interval. A tie requires that the slowdown was found."
    )


def _prefix_reuse(n_queries: int) -> str:
    if not n_queries:
        return "Nothing is kept between calls: every call computes its query anew."
    return (
        f"Prefix reuse, as asked for: best_native views keep the keys and values of the last {n_queries} queries, so "
        "calls with the same query do not compute it again, and a share of the floor may exceed 100 %."
    )
