"""Estimate the memory of a call on an accelerator, so that a cell that cannot fit is refused before it runs."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import astuple, dataclass

import psutil

from scorematrix.matrix.params import Params
from scorematrix.matrix.plan import chunk_order, plan_rounds
from scorematrix.models import read_description
from scorematrix.models.config import DecoderConfig
from scorematrix.readiness.targets import Target, target
from scorematrix.results import PlannedRound
from scorematrix.scoring.mesh import Mesh
from scorematrix.scoring.packing import packed_shape
from scorematrix.scoring.sharding import device_share
from scorematrix.scoring.shared_prefix import CPU_STEP_BYTES, padded_size, token_values, tokens_a_step
from scorematrix.workload import ScoreRequest, Workload

BYTES = {"float32": 4, "bfloat16": 2}
CONTEXT_BYTES = 600_000_000
"""Approximate memory of an accelerator that a process takes before it holds an array: driver, kernels, libraries."""
VOCABULARY_TILE = 8192
"""Rows of the head that the best-native views multiply at once."""


@dataclass(frozen=True)
class MemoryNeed:
    """Peak memory of a call on one device, in bytes; an estimate on the high side.

    Attributes:
        scores: attention scores, if the view stores all of them at once, as portable does.
        keys: the query's keys and values of all layers, if a later step or call needs them.
        logits: of the vocabulary, with the head's rows in float32, if the softmax is over the full vocabulary.
    """

    weights: int
    activations: int
    scores: int
    keys: int
    logits: int

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(astuple(self))

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {n / 1e9:.2f}" for name, n in vars(self).items() if n >= 5e6)
        return f"{self.total / 1e9:.2f} GB" + (f" ({parts})" if parts else "")


def portable_need(config: DecoderConfig, dtype: str, framework: str, call: ScoreRequest) -> MemoryNeed:
    """Estimate a call of view `portable`, which stores every score of the packed sequence and its softmax.

    XLA's compiler for a v6e lays out two copies in float32, at 2,816 tokens. PyTorch adds one in the weights' format if
    that is not float32.
    """
    (n_tokens, n_scored), size = packed_shape(call), BYTES[dtype]
    a_score = 8 + (size if framework == "pytorch" and size < 4 else 0)
    logits = 0 if call.apply_softmax else 4 * config.vocab_size * (config.hidden_size + n_scored)
    return MemoryNeed(
        weights=size * config.n_params,
        activations=4 * token_values(config) * n_tokens,
        scores=a_score * config.n_heads * n_tokens**2,
        keys=0,
        logits=logits,
    )


def best_native_need(
    config: DecoderConfig, dtype: str, call: ScoreRequest, step_tokens: int, kept_queries: int = 0
) -> MemoryNeed:
    """Estimate a call of view `best_native`, which needs a step's activations; its kernels store no scores.

    Args:
        config: of one device's share, if a mesh splits the model.
        step_tokens: most item tokens computed together.
        kept_queries: number of queries whose keys and values are kept between calls.
    """
    size, longest = BYTES[dtype], max(map(len, call.items_ids))
    n_query, n_items = padded_size(len(call.query_ids)), padded_size(call.n_tokens - len(call.query_ids))
    at_once = min(n_items, max(step_tokens, longest))
    n_kept = kept_queries + (1 if n_items > at_once else 0)
    tile = min(VOCABULARY_TILE, config.vocab_size)
    logits = 0 if call.apply_softmax else 4 * tile * (config.hidden_size + len(call.items_ids))
    return MemoryNeed(
        weights=size * config.n_params,
        activations=4 * token_values(config) * (n_query + at_once),
        scores=0,
        keys=n_kept * 2 * size * config.n_layers * n_query * config.n_kv_heads * config.head_dim,
        logits=logits,
    )


def refuse_oversized(config: DecoderConfig, view: str, dtype: str, framework: str, call: ScoreRequest) -> None:
    """Refuse a call on a CPU whose working memory is not free.

    Raises:
        ValueError: naming tokens, need, what is free, and the remedy.
    """
    free = psutil.virtual_memory().available
    need = _cpu_need(config, view, dtype, framework, call)
    if need.total - need.weights > free:
        remedy = "use --view best_native, or shorter texts" if view == "portable" else "use shorter texts"
        raise ValueError(
            f"a call of {call.n_tokens} tokens needs about {need}, and {free / 1e9:.2f} GB are free; {remedy}"
        )


def call_tokens(config: DecoderConfig, view: str, dtype: str, framework: str, bytes_allowed: int, most: int) -> int:
    """Return the most tokens of a call, query included, whose working memory on a CPU is within bytes_allowed.

    Args:
        most: the result is no higher.

    Raises:
        ValueError: if the memory does not even allow two tokens.
    """

    def working_bytes(n_tokens: int) -> int:
        call = ScoreRequest((0,) * (n_tokens - 1), ((0,),), (0,), False)
        need = _cpu_need(config, view, dtype, framework, call)
        return need.total - need.weights

    if working_bytes(2) > bytes_allowed:
        raise ValueError(f"max_memory={bytes_allowed / 2**30:.2f} GiB is too little for any call; allow more")
    return bisect_right(range(2, most + 1), bytes_allowed, key=working_bytes) + 1


def _cpu_need(config: DecoderConfig, view: str, dtype: str, framework: str, call: ScoreRequest) -> MemoryNeed:
    if view == "portable":
        return portable_need(config, dtype, framework, call)
    return best_native_need(config, dtype, call, tokens_a_step(config, CPU_STEP_BYTES))


def step_tokens_on(where: Target, config: DecoderConfig, mesh: Mesh) -> int:
    """Return the item tokens of a step on an accelerator, as in the engines: what fits in a tenth of its memory."""
    assert where.device_bytes is not None
    return tokens_a_step(device_share(config, mesh), where.device_bytes // 10)


def mesh_on(where: Target, params: Params, backend: str, view: str) -> Mesh:
    """Return the mesh that a backend's view is spread over on a target; of one device if it is not spread."""
    return Mesh.parse(params.mesh_of(backend, view, where.name) or Mesh())


def largest_call(workload: Workload, chunk_size: int) -> ScoreRequest:
    """Return the call with the most tokens; no other of this size needs more memory."""
    return max((call for calls in workload.calls(chunk_size) for call in calls), key=lambda call: call.n_tokens)


def refused_chunks(params: Params, planned: PlannedRound, workload: Workload) -> dict[int, str]:
    """Return the chunk sizes of a round that cannot fit its accelerator, each with the reason and the remedy.

    Nothing is refused on a CPU, or for a backend of unknown memory: a baseline, a server, a custom scorer.
    """
    where, needs = target(planned.target), _needs(params, planned, workload)
    fitting = [size for size, need in needs.items() if need.total <= (where.device_bytes or 0)]
    side = f"{planned.backend} {planned.view}"
    return {size: refusal(side, where, size, need, fitting) for size, need in needs.items() if size not in fitting}


def process_bytes(params: Params, planned: PlannedRound, workload: Workload) -> int:
    """Estimate the accelerator's memory that a round's process holds: that of its largest call that fits.

    Frameworks keep what a call has used. Of a baseline or a custom scorer only the weights are known; it is granted a
    step's working memory.
    """
    where = target(planned.target)
    assert where.device_bytes is not None
    fitting = [n.total for n in _needs(params, planned, workload).values() if n.total <= where.device_bytes]
    size = BYTES[_dtype(params, planned)] * read_description(params.model).config.n_params
    return CONTEXT_BYTES + max(fitting, default=size + where.device_bytes // 10)


def refused_cells(params: Params, workload: Workload) -> list[str]:
    """Return a line for every cell of a plan that cannot fit its accelerator."""
    sides = {(p.backend, p.view, p.target): p for p in plan_rounds(params) if p.role == "confirm"}
    return [line for planned in sides.values() for _, line in sorted(refused_chunks(params, planned, workload).items())]


def refusal(side: str, where: Target, chunk_size: int, need: MemoryNeed, fitting: list[int]) -> str:
    """Return the line that refuses a cell: chip, need, memory, remedy.

    Args:
        fitting: chunk sizes of the same round that do fit.
    """
    assert where.device_bytes is not None
    smaller = [size for size in fitting if size < chunk_size]
    if need.weights > where.device_bytes:
        remedy = "use a smaller model, or a target with more memory"
    elif smaller:
        remedy = f"use chunk_sizes of at most {max(smaller)}"
    else:
        remedy = f"use chunk_sizes below {chunk_size}, or view best_native"
    share = "has" if where.devices_a_chip == 1 else "has on each device"
    return (
        f"{side} at chunk size {chunk_size} needs about {need}, more than the {where.device_bytes / 1e9:.2f} GB that "
        f"{where.label} {share}; {remedy}"
    )


def _dtype(params: Params, planned: PlannedRound) -> str:
    """Return a round's number format on an accelerator."""
    requested = "float32" if planned.role == "reference" else params.dtype
    return "bfloat16" if requested == "auto" else requested


def _needs(params: Params, planned: PlannedRound, workload: Workload) -> dict[int, MemoryNeed]:
    """Return the need of a round's largest call by chunk size; empty on a CPU, or for a backend of unknown memory."""
    where = target(planned.target)
    if where.device_bytes is None or planned.backend not in ("jax", "pytorch"):
        return {}
    config, dtype = read_description(params.model).config, _dtype(params, planned)
    calls = {size: largest_call(workload, size) for size in chunk_order(params, planned)}
    return {size: _need(params, planned, where, config, dtype, call) for size, call in calls.items()}


def _need(
    params: Params, planned: PlannedRound, where: Target, config: DecoderConfig, dtype: str, call: ScoreRequest
) -> MemoryNeed:
    if planned.view == "portable":
        return portable_need(config, dtype, planned.backend, call)
    mesh = mesh_on(where, params, planned.backend, planned.view)
    share, step_tokens = device_share(config, mesh), step_tokens_on(where, config, mesh)
    return best_native_need(share, dtype, call, step_tokens, params.reuse_prefix)
