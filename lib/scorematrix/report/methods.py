"""How a run was measured, what it does not show, and how to reproduce it."""

from __future__ import annotations

from scorematrix.compare.schema import Comparison
from scorematrix.compare.steady import LEAST_PASSES
from scorematrix.compare.timing import CEILING_SHARE
from scorematrix.report.formatting import NONE, counted, lengths
from scorematrix.report.html import Fragment, bullets, heading, table


def _in_turns(comparison: Comparison) -> bool:
    return any(contrast.in_turns for contrast in comparison.contrasts)


def _order(comparison: Comparison) -> str:
    seed = comparison.params["seed"]
    if not _in_turns(comparison):
        return f"Sides that share a device run back to back. The order is drawn per pair from seed {seed}."
    return (
        "Sides that share a device, and the control, run at the same time and take turns, one request at a time. A "
        f"process that waits uses no core. Orders are drawn from seed {seed}, and each is followed by its reverse. "
        f"Turns during which other processes took more than {comparison.params.get('disturbed_share', 0.05):.0%} of a "
        "core are marked, and excluded if enough clean turns remain. After such a turn the next ones wait for a quiet "
        "machine, for a limited time. In confirmation rounds the sides load at the same time, which start-up times "
        "include."
    )


def _pair(comparison: Comparison) -> str:
    if not _in_turns(comparison):
        return "A pair's ratio is the ratio of its median pass times."
    return (
        "A pair's ratio is the Hodges-Lehmann estimate over neighbouring turns, or the ratio of median pass times if "
        "the pair has none."
    )


LIES = (
    "No measurement here can detect: a backend that recognises this benchmark by its shapes; a handicap hidden in one "
    "side's process or flags; clocks forged in every process of the machine; load that another virtual machine puts on "
    "the same hardware only during one side's turns. Clock checks allow a few milliseconds per turn, so the times of "
    "very short turns can be wrong by a large share.",
    "Checksums detect damaged files, and records that contradict each other are refused or shown. A consistent "
    "forgery is not detected: times edited together with every clock and turn; processor time of other processes "
    "edited together with the marks; laps deleted from every round of a group; a round exchanged with its control; "
    "rounds measured again, deleted from the journal too; other params, such as the margin, with their plan; other "
    "tokens, weights or software versions in every file; the reason of a skip; text in a report outside of its "
    "verdicts. A signature detects edits of all but the reports: `scorematrix sign`.",
)
"""Deceptions that no check in a run would detect."""


def _second_stopwatch(comparison: Comparison) -> list[str]:
    if not _in_turns(comparison):
        return []
    return [
        "The conductor, which hands out the turns, times them too. A gate fails if a process's clocks disagree with "
        "it, if a process uses more cores than recorded, or if other processes took more CPU time from one side than "
        "from the other.",
        "Every third lap scores tokens drawn during the run from the system's random source, the same for all sides. "
        "Their scores must agree between the sides and, for sampled items, with the reference, and these calls "
        "must take as long as the workload's. Programs are prepared with other tokens than those that are timed.",
    ]


def methods(comparison: Comparison) -> Fragment:
    """Return how the run was measured, in short, and what that does not show."""
    p, w = comparison.params, comparison.workload
    softmax = "softmax over the labels" if w.apply_softmax else "probability over the whole vocabulary"
    lines = [
        f"Workload {w.name}: {counted(w.n_requests, 'query', 'queries')} of {lengths(w.query_tokens)} tokens, "
        f"{counted(w.n_items, 'item', 'items')} of {lengths(w.item_tokens)} tokens, {softmax}. {w.origin}.",
        f"Model {p['model']}; the same weights and token ids on both sides, checked by hash.",
        f"A round is one fresh process that measures one side. Each side has {p['tuning_rounds']} tuning and "
        f"{p['rounds']} confirmation rounds. {_order(comparison)}",
        f"For every chunk size a round makes {counted(p['warmup_passes'], 'warm-up pass', 'warm-up passes')} and at "
        f"least {counted(p['passes'], 'timed pass', 'timed passes')} over all requests. A time runs from token ids on "
        "the host to float32 scores on the host (perf_counter_ns). It excludes tokenization and compilation.",
        "The effect is the geometric mean over pairs of confirmation rounds, with a paired-t 95 % interval. "
        f"{_pair(comparison)} The margin is {p['margin']:.0%}. An interval beyond it names a winner; an interval "
        "inside it is a tie.",
        _looks(comparison),
        "If a run has several contrasts, a winner's effect must survive Holm's correction over all of them.",
        f"Times must be possible: no pass may exceed {CEILING_SHARE:g} times the measured matmul peak, a call with "
        "more work must take longer, a repeated query may be at most 10 % faster than a new one, no timed window may "
        "be shorter than 1 ms, and nothing may compile while the clock runs.",
        *_second_stopwatch(comparison),
        "Latency is measured with one call in flight and no queue, and items/s is its inverse. Throughput with several "
        "calls in flight is not measured.",
        _controls(comparison),
        _prefix_reuse(p.get("reuse_prefix", 0)),
        "Each side's chunk size is chosen on tuning rounds and estimated on confirmation rounds. No outlier is "
        "dropped. Percentiles need enough samples, pooled over at least 5 rounds.",
    ]
    for side in comparison.sides:
        if side.precision:
            extra = f" Fallbacks: {'; '.join(side.fallbacks)}." if side.fallbacks else ""
            lines.append(f"{side.name} on {side.device}: {side.precision}.{extra}")
    limits = [
        "The verdict applies only to this model, this workload and this machine. Other shapes may reverse it.",
        "Runs that were discarded are invisible to this report. Compare the params' checksum and seed.",
        *LIES,
        "Pipelined throughput is not judged. Load on live servers is shown, but no verdict uses it.",
    ]
    if comparison.params.get("prices") is None or not comparison.params["prices"]:
        limits.append("No cost: add a dated, sourced price to the params.")
    if not any(side.steadiness for side in comparison.sides):
        limits.append(f"Steadiness after warm-up is not tested: it needs {LEAST_PASSES} timed passes per cell.")
    if all(side.watts is None for side in comparison.sides):
        limits.append("No energy: only NVIDIA GPUs report it.")
    return (
        heading("Methods", "methods")
        + bullets(lines)
        + heading("What this does not show", "limits")
        + bullets([*limits, *comparison.warnings])
    )


def reproduce(comparison: Comparison, commit: str | None) -> Fragment:
    """Return the run's checksums, and the commands that repeat it."""
    rows = [
        ["commit", commit or NONE],
        ["params sha256", comparison.params_sha256],
        ["workload sha256", comparison.workload.sha256],
        ["weights sha256", comparison.weights_sha256 or NONE],
        ["measure again", f"scorematrix run params/{comparison.params['name']}.yaml --run-id NEW --report"],
        ["report this run again", f"scorematrix report {comparison.run_id}"],
    ]
    return heading("Reproduce", "reproduce") + table("What was run", ["item", "value"], rows, text_columns=(0, 1))


def _looks(comparison: Comparison) -> str:
    looks = comparison.looks
    if len(looks) < 2:
        return f"Verdicts are made once, when all {comparison.params['rounds']} confirmation rounds are recorded."
    counts = ", ".join(map(str, looks))
    return (
        f"Verdicts are made at {counts} confirmation rounds, fixed beforehand. Each of these {len(looks)} looks gets "
        "an equal share of the 5 % error (Bonferroni), so its intervals are wider, with 95 % coverage over all looks."
    )


def _controls(comparison: Comparison) -> str:
    if not comparison.controls:
        return "Controls were not measured."
    return (
        "Controls: in every confirmation round, one more fresh process repeats one side, unchanged and slowed by 5 %. "
        "The sides alternate, and their ratios are pooled. A control fails if its 99 % interval shows a difference "
        "from itself, or misses the slowdown. A failed control voids all verdicts of its target. The decision margin "
        "is at least the largest bias that the 95 % A/A interval allows. A control in another view widens the margin "
        "to at most the half-width of the contrast's interval. A tie requires that the control detects the slowdown."
    )


def _prefix_reuse(n_queries: int) -> str:
    if not n_queries:
        return "No prefix cache: every call computes its query."
    return (
        f"Prefix reuse is on: best_native views keep the keys and values of the last {n_queries} queries. Calls with "
        "the same query do not compute it again, so the share of peak may exceed 100 %."
    )
