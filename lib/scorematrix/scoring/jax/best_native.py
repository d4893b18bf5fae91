"""The best-native view in JAX: the query computed once, one joint pass per layer over query and item tokens.

It mirrors scoring/pytorch/best_native.py.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from scorematrix.models.catalogue import Model
from scorematrix.models.config import DecoderConfig
from scorematrix.models.weights import DecoderWeights, LayerWeights
from scorematrix.scoring.contract import AskedDType, CompileEvent, Scores
from scorematrix.scoring.forms import checked_form
from scorematrix.scoring.jax import device as devices
from scorematrix.scoring.jax.attention import (
    PALLAS,
    BlockInputs,
    Form,
    Prefix,
    attention_forms,
    find_own_items,
    in_tiles,
    joint_attention,
    rows_computed,
    scored_attention,
)
from scorematrix.scoring.jax.compiles import kept_program
from scorematrix.scoring.jax.model import (
    embed,
    feed_forward,
    label_probabilities_tiled,
    linear,
    project_qkv,
    rms_norm,
    rotary_tables,
)
from scorematrix.scoring.prefix_cache import PrefixCache
from scorematrix.scoring.rotary import inverse_frequencies
from scorematrix.scoring.shared_prefix import ProgramKey, Step, keyed_steps, read_out, tokens_a_step
from scorematrix.workload.request import ScoreRequest

ROWS = 1024
"""Feed-forward rows computed together on a CPU: few enough to stay in cache."""
Leaf = TypeVar("Leaf")


class KeptPrefix(NamedTuple, Generic[Leaf]):
    """The query's keys and values in every layer, in the weights' format; or their shapes or sharding."""

    keys_lqkh: Leaf
    values_lqkh: Leaf


class BestNativeBackend:
    """Backend `jax`, view `best_native`.

    Args:
        step_tokens: most item tokens computed together; None: as many as a share of the memory allows.
        reuse_prefix: number of queries whose keys and values are kept for calls with the same query.
        attention: a form that the device supports; None: the likely fastest.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: str = "auto",
        dtype: AskedDType = "auto",
        step_tokens: int | None = None,
        reuse_prefix: int = 0,
        attention: str | None = None,
    ) -> None:
        self._device = devices.choose_device(device)
        dtype, why = devices.choose_dtype(dtype, self._device)
        forms = attention_forms(self._device.platform, dtype, model.config.head_dim)
        self.attention_forms = forms
        self._form: Form = checked_form(attention, forms)
        self.compile_events: list[CompileEvent] = []
        self._config = model.config
        self._weights = devices.place_weights(model.weights, dtype, self._device)
        self._step_tokens = step_tokens or tokens_a_step(model.config, devices.step_budget_bytes(self._device))
        self._kept: PrefixCache[KeptPrefix[Array]] = PrefixCache(reuse_prefix)
        self._programs: dict[ProgramKey, jax.stages.Compiled] = {}
        self.most_programs: int | None = None
        self.info = devices.describe(
            model,
            "best_native",
            self._device,
            dtype,
            dtype_choice=why,
            attention=self._form,
            step_tokens=self._step_tokens,
            reuse_prefix=reuse_prefix,
        )

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        for request in requests:
            for query_known in [False, True] if self._kept.limit else [False]:
                for _, key in self._steps(request, query_known):
                    self._program(key)

    def with_attention(self, form: str) -> BestNativeBackend:
        """Return an engine on the same weights that uses a form of attention."""
        other = copy.copy(self)
        other._form = checked_form(form, self.attention_forms)
        other._programs, other._kept, other.compile_events = {}, PrefixCache(self._kept.limit), []
        other.info = dataclasses.replace(self.info, settings=self.info.settings | {"attention": form})
        return other

    def score(self, request: ScoreRequest) -> Scores:
        request.check_vocabulary(self._config.vocab_size)
        prefix, results = self._kept.get(request.query_ids), []
        for step, key in self._steps(request, prefix is not None):
            given = None if step.shape.with_query else prefix
            probabilities_sc, made = self._program(key)(self._weights, packed_inputs(step, request.label_ids), given)
            results.append((step, probabilities_sc))
            if key.keeps_prefix:
                prefix = made
                self._kept.put(request.query_ids, made)
        return read_out(request, [(step, np.asarray(probabilities_sc)) for step, probabilities_sc in results])

    def computed_tokens(self, request: ScoreRequest) -> int:
        """Return the number of tokens that a call computes, padding included."""
        return sum(rows_computed(step.shape, self._form) for step, _ in self._steps(request, query_known=False))

    def _steps(self, request: ScoreRequest, query_known: bool) -> list[tuple[Step, ProgramKey]]:
        return keyed_steps(request, self._step_tokens, query_known=query_known, keeps_query=self._kept.limit > 0)

    def _program(self, key: ProgramKey) -> jax.stages.Compiled:
        def make() -> jax.stages.Compiled:
            program, event = compile_program(self._config, self._weights, key, self._form, self._device)
            self.compile_events.append(event)
            return program

        return kept_program(self._programs, key, make, self.most_programs)


def program_inputs(step: Step) -> tuple[np.ndarray, np.int32, tuple[BlockInputs[np.ndarray], ...]]:
    """Return the arrays that change from step to step, in the order of `score_step`."""
    blocks = tuple(BlockInputs(b.token_t, b.position_t, b.item_t, b.scored_s) for b in step.blocks)
    return step.query_q, np.int32(step.n_query), blocks


def packed_inputs(step: Step, label_ids: Sequence[int]) -> Int[np.ndarray, " n"]:
    """Concatenate `program_inputs` and the labels, so that one transfer moves them to the device."""
    query_q, n_query, blocks = program_inputs(step)
    arrays = (array for block in blocks for array in block)
    return np.concatenate([query_q, [n_query], *arrays, np.asarray(label_ids)], dtype=np.int32)


def unpacked(key: ProgramKey, inputs: Int[Array, " n"]) -> tuple[Array, Array, tuple[BlockInputs[Array], ...], Array]:
    """Split packed inputs into the query's tokens, how many of them are real, each block's inputs, and the labels."""
    sizes = [size for block in key.shape.blocks for size in (block.t, block.t, block.t, block.s)]
    ends = np.cumsum([key.shape.q, 1, *sizes])
    query_q, n_query_1, *arrays, label_c = jnp.split(inputs, ends)
    return query_q, n_query_1[0], tuple(BlockInputs(*arrays[i : i + 4]) for i in range(0, len(arrays), 4)), label_c


def compile_program(
    config: DecoderConfig,
    weights: DecoderWeights[Array] | DecoderWeights[jax.ShapeDtypeStruct],
    key: ProgramKey,
    form: Form,
    device: devices.Device,
    *,
    traced: bool = False,
) -> tuple[jax.stages.Compiled, CompileEvent]:
    """Trace and compile ahead of time for one padded shape; `weights` may be shapes only.

    Args:
        traced: compile for a profiler, without CUDA graphs, which hide kernels from it.
    """

    def program(
        weights: DecoderWeights[Array], inputs: Array, given: KeptPrefix[Array] | None
    ) -> tuple[Array, KeptPrefix[Array] | None]:
        query_q, n_query, blocks, label_c = unpacked(key, inputs)
        return score_step(config, key, form, weights, query_q, n_query, blocks, given, label_c)

    if traced:  # another name, so that the persistent cache cannot return a program compiled before the scopes existed
        program.__name__ = "profiled"
    shapes = program_shapes(config, key, weights.layers.k_ldkh.dtype, device)
    return devices.compile_ahead(
        jax.jit(program), (weights, *shapes), device, program_name(key), tuned=True, traced=traced
    )


def program_name(key: ProgramKey) -> str:
    """Return a program's name for the record of compiles."""
    blocks = " ".join(f"t={b.t} s={b.s} w={b.window}" for b in key.shape.blocks)
    return f"best_native q={key.shape.q} {blocks} c={key.n_labels} softmax={key.apply_softmax}"


def program_shapes(
    config: DecoderConfig, key: ProgramKey, dtype: jnp.dtype, device: devices.Device
) -> tuple[jax.ShapeDtypeStruct, KeptPrefix[jax.ShapeDtypeStruct] | None]:
    """Return the argument shapes after the weights: `packed_inputs`, and a known query's keys and values."""
    on_device = jax.sharding.SingleDeviceSharding(device)
    n = key.shape.q + 1 + sum(3 * block.t + block.s for block in key.shape.blocks) + key.n_labels
    inputs = jax.ShapeDtypeStruct((n,), jnp.int32, sharding=on_device)
    kept = (config.n_layers, key.shape.q, config.n_kv_heads, config.head_dim)
    layers = jax.ShapeDtypeStruct(kept, dtype, sharding=on_device)
    return inputs, None if key.shape.with_query else KeptPrefix(layers, layers)


def score_step(
    config: DecoderConfig,
    key: ProgramKey,
    form: Form,
    weights: DecoderWeights[Array],
    query_q: Int[Array, " q"],
    n_query: Int[Array, ""],
    blocks: tuple[BlockInputs[Array], ...],
    given: KeptPrefix[Array] | None,
    label_c: Int[Array, " c"],
    total: Callable[[Array], Array] = lambda part: part,
) -> tuple[Float[Array, "s c"], KeptPrefix[Array] | None]:
    """Run a step's forward pass and return the probabilities, and the query's keys and values if wanted.

    Args:
        total: sums this device's part of a contribution to the residual stream over all devices.
    """
    query_tokens, query_positions = [query_q], [jnp.arange(key.shape.q)]
    if not key.shape.with_query:
        query_tokens, query_positions = [], []
    fill_t = jnp.zeros(rows_computed(key.shape, form) - key.shape.n_tokens, jnp.int32)
    token_t = jnp.concatenate([*query_tokens, *(block.token_t for block in blocks), fill_t])
    position_t = jnp.concatenate([*query_positions, *(block.position_t for block in blocks), fill_t])
    rotary = rotary_tables(position_t, inverse_frequencies(config))
    scored_s = jnp.concatenate(
        [block.scored_s + s.start for block, s in zip(blocks, key.shape.block_slices, strict=True)]
    )
    own_items = find_own_items(blocks, key.shape, form)
    # On a CPU a float32 result costs nothing; elsewhere an array this wide is memory-bound.
    wide_dtype = jnp.float32 if form == "tiles" else weights.layers.gate_ldf.dtype

    def keys_and_values(l: Array | int, k_tkh: Array, v_tkh: Array) -> Prefix:
        if given is not None:
            return Prefix(given.keys_lqkh[l], given.values_lqkh[l], n_query)
        return Prefix(k_tkh[: key.shape.q], v_tkh[: key.shape.q], n_query)

    def layer_step(x_td: Array, l: Array) -> tuple[Array, KeptPrefix[Array] | None]:
        layer = layer_at(weights.layers, l)
        q_tnh, k_tkh, v_tkh = project(config, layer, x_td, rotary, form)
        prefix = keys_and_values(l, k_tkh, v_tkh)
        attended_tnh = joint_attention(q_tnh, k_tkh, v_tkh, prefix, own_items, key.shape, form)
        x_td = x_td + total(linear("tnh,nhd->td", attended_tnh, layer.o_lnhd))
        rows = ROWS if form == "tiles" else x_td.shape[0]
        x_td = in_tiles(lambda x_rd: x_rd + total(feed_forward(config, layer, x_rd, wide_dtype)), x_td, rows)
        return x_td, KeptPrefix(prefix.keys_qkh, prefix.values_qkh) if key.keeps_prefix else None

    def last_layer(x_td: Array) -> tuple[Array, KeptPrefix[Array] | None]:
        layer = layer_at(weights.layers, config.n_layers - 1)
        q_tnh, k_tkh, v_tkh = project(config, layer, x_td, rotary, form)
        x_sd = x_td[scored_s]
        prefix = keys_and_values(config.n_layers - 1, k_tkh, v_tkh)
        if form in PALLAS:  # the kernel takes full blocks of rows
            attended_snh = joint_attention(q_tnh, k_tkh, v_tkh, prefix, own_items, key.shape, form)[scored_s]
        else:
            q_snh, _, _ = project(config, layer, x_sd, (rotary[0][scored_s], rotary[1][scored_s]), form)
            attended_snh = scored_attention(q_snh, k_tkh, v_tkh, prefix, blocks, key.shape, form)
        x_sd = x_sd + total(linear("tnh,nhd->td", attended_snh, layer.o_lnhd))
        x_sd = x_sd + total(feed_forward(config, layer, x_sd, wide_dtype))
        return x_sd, KeptPrefix(prefix.keys_qkh[None], prefix.values_qkh[None]) if key.keeps_prefix else None

    x_td, kept = jax.lax.scan(layer_step, embed(config, weights.embed_vd, token_t), jnp.arange(config.n_layers - 1))
    x_sd, kept_last = last_layer(x_td)
    hidden_sd = rms_norm(config, x_sd, weights.final_norm_d)
    scores_sc = label_probabilities_tiled(hidden_sd, weights.head_vd, label_c, key.apply_softmax)
    kept = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), kept, kept_last)
    return scores_sc, kept


def project(
    config: DecoderConfig, layer: LayerWeights[Array], x_td: Array, rotary: tuple[Array, Array], form: Form
) -> tuple[Array, Array, Array]:
    """Return scaled float32 queries, and keys and values in the weights' format."""
    dtype = layer.k_ldkh.dtype
    q_tnh, k_tkh, v_tkh = project_qkv(
        config, layer, x_td, *rotary, turn_weights=form in PALLAS, wide_dtype=dtype if form == "cudnn" else jnp.float32
    )
    return q_tnh * config.head_dim**-0.5, k_tkh.astype(dtype), v_tkh.astype(dtype)


def layer_at(layers: LayerWeights[Array], l: Array | int) -> LayerWeights[Array]:
    """Return one layer of the stacked weights. Its leaves lack the l axis of their names."""
    return jax.tree.map(lambda leaf: leaf[l], layers)
