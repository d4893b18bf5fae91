"""The best-native view in JAX over a mesh of devices: items over its `data` axis, weights over its `model` axis.

`scoring/sharding.py` explains the layout. One program serves all devices: `shard_map` around the `score_step` of one
device. Each device runs it on its share of the heads and columns with its replica's items, and the two products that
lead back to the residual stream are summed over `model`. Sharding constraints would not do: XLA cannot partition a
Pallas kernel, and explicit collectives make a program's cost readable. It mirrors scoring/pytorch/sharded.py.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from scorematrix.models.catalogue import Model
from scorematrix.models.config import DecoderConfig
from scorematrix.models.weights import DecoderWeights
from scorematrix.scoring.contract import AskedDType, CompileEvent, Scores
from scorematrix.scoring.jax import best_native
from scorematrix.scoring.jax import device as devices
from scorematrix.scoring.jax.attention import Form, attention_forms, rows_computed
from scorematrix.scoring.jax.best_native import BlockInputs, KeptPrefix, program_name, score_step
from scorematrix.scoring.jax.compiles import kept_program
from scorematrix.scoring.mesh import Mesh
from scorematrix.scoring.prefix_cache import PrefixCache
from scorematrix.scoring.sharding import device_share, letters, repeat_kv_heads, repeated_kv, split_axis
from scorematrix.scoring.shared_prefix import ProgramKey, Step, lay_out_replica_steps, read_out, tokens_a_step
from scorematrix.workload.request import ScoreRequest

EVERYWHERE = P()
KEPT = P(None, None, "model", None)
"""Sharding of the query's keys and values [l, q, k, h]."""


class ShardedBackend:
    """Backend `jax`, view `best_native`, over a mesh.

    Args:
        mesh: replicas of the model, and devices per replica.
        step_tokens: most item tokens that a replica computes together; None: as many as a share of the memory allows.
        reuse_prefix: number of queries whose keys and values are kept for calls with the same query.

    Raises:
        ValueError: if the mesh has more devices than there are, or does not divide the model.
    """

    def __init__(
        self,
        model: Model,
        *,
        mesh: Mesh,
        device: str = "auto",
        dtype: AskedDType = "auto",
        step_tokens: int | None = None,
        reuse_prefix: int = 0,
    ) -> None:
        self._n_replicas, share = mesh.data, device_share(model.config, mesh)
        chosen = choose_devices(device, mesh)
        dtype, why = devices.choose_dtype(dtype, chosen[0])
        self._form: Form = attention_forms(chosen[0].platform, dtype, model.config.head_dim)[0]
        self.compile_events: list[CompileEvent] = []
        self._config, self._mesh = model.config, mesh_of(mesh, chosen)
        weights = repeat_kv_heads(model.config, model.weights, mesh)
        self._weights = devices.place_weights(weights, dtype, placement(self._mesh))
        self._step_tokens = step_tokens or tokens_a_step(share, devices.step_budget_bytes(chosen[0]))
        self._kept: PrefixCache[KeptPrefix[Array]] = PrefixCache(reuse_prefix)
        self._programs: dict[ProgramKey, jax.stages.Compiled] = {}
        self.most_programs: int | None = None
        self.info = devices.describe(
            model,
            "best_native",
            chosen[0],
            dtype,
            dtype_choice=why,
            attention=self._form,
            mesh=str(mesh),
            step_tokens=self._step_tokens,
            reuse_prefix=reuse_prefix,
        )

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        for request in requests:
            for query_known in [False, True] if self._kept.limit else [False]:
                for _, key in self._steps(request, query_known):
                    self._program(key)

    def score(self, request: ScoreRequest) -> Scores:
        request.check_vocabulary(self._config.vocab_size)
        label_c = np.asarray(request.label_ids, np.int32)
        prefix, results = self._kept.get(request.query_ids), []
        for steps, key in self._steps(request, prefix is not None):
            given = None if key.shape.with_query else prefix
            probabilities_sc, made = self._program(key)(self._weights, *program_inputs(steps), given, label_c)
            results.append((steps, probabilities_sc))
            if key.keeps_prefix:
                prefix = made
                self._kept.put(request.query_ids, made)
        replicas = (zip(steps, np.split(np.asarray(all_sc), len(steps)), strict=True) for steps, all_sc in results)
        return read_out(request, [pair for pairs in replicas for pair in pairs])

    def computed_tokens(self, request: ScoreRequest) -> int:
        """Return the number of tokens that a call computes, padding included, and the query once per replica."""
        steps = [step for steps, _ in self._steps(request, query_known=False) for step in steps]
        return sum(rows_computed(step.shape, self._form) for step in steps)

    def _steps(self, request: ScoreRequest, query_known: bool) -> list[tuple[list[Step], ProgramKey]]:
        keeps_query = self._kept.limit > 0
        return keyed_steps(
            request, self._step_tokens, self._n_replicas, query_known=query_known, keeps_query=keeps_query
        )

    def _program(self, key: ProgramKey) -> jax.stages.Compiled:
        def make() -> jax.stages.Compiled:
            program, event = compile_program(self._config, self._weights, key, self._form, self._mesh)
            self.compile_events.append(event)
            return program

        return kept_program(self._programs, key, make, self.most_programs)


def choose_devices(device: str, mesh: Mesh) -> list[devices.Device]:
    """Return the first devices of a kind, as many as the mesh has.

    Raises:
        ValueError: if there are fewer, with both numbers.
    """
    platform = devices.choose_device(device).platform
    here = jax.local_devices(backend=platform)
    if len(here) < mesh.size:
        more = {"cpu": f"start JAX with XLA_FLAGS=--xla_force_host_platform_device_count={mesh.size}, or use "}
        raise ValueError(
            f"mesh={str(mesh)!r} needs {mesh.size} devices, JAX sees {len(here)} of platform {platform}; "
            f"{more.get(platform, 'use ')}a mesh of at most {len(here)}"
        )
    return here[: mesh.size]


def mesh_of(mesh: Mesh, chosen: Sequence[devices.Device]) -> jax.sharding.Mesh:
    """Return the mesh over devices, ordered for the shortest paths along its axes."""
    axis_types = (jax.sharding.AxisType.Auto,) * 2
    return jax.make_mesh((mesh.data, mesh.model), ("data", "model"), axis_types, devices=chosen)


def placement(mesh: jax.sharding.Mesh) -> devices.Placement:
    """Return the sharding of each leaf of the weights: heads and feed-forward columns over the model axis."""

    def place(name: str) -> NamedSharding:
        split = split_axis(name)
        return NamedSharding(mesh, P(*("model" if i == split else None for i in range(len(letters(name))))))

    return place


def keyed_steps(
    request: ScoreRequest, step_tokens: int, n_replicas: int, *, query_known: bool = False, keeps_query: bool = False
) -> list[tuple[list[Step], ProgramKey]]:
    """Return a request's steps, one per replica, with their program's key. The first compute an unknown query."""
    laid_out = lay_out_replica_steps(request, step_tokens, n_replicas, query_known=query_known)
    wanted, n_labels = len(laid_out) > 1 or keeps_query, len(request.label_ids)
    return [
        (steps, ProgramKey(shape, n_labels, request.apply_softmax, shape.with_query and wanted))
        for steps in laid_out
        for shape in [steps[0].shape]
    ]


def program_inputs(steps: Sequence[Step]) -> tuple[np.ndarray, np.int32, tuple[BlockInputs[np.ndarray], ...]]:
    """Return the arrays that change from step to step, replicas' blocks concatenated, in the order of `score_step`."""
    inputs = [best_native.program_inputs(step) for step in steps]
    query_q, n_query, _ = inputs[0]
    return query_q, n_query, jax.tree.map(lambda *parts: np.concatenate(parts), *(blocks for *_, blocks in inputs))


def compile_program(
    config: DecoderConfig,
    weights: DecoderWeights[Array] | DecoderWeights[jax.ShapeDtypeStruct],
    key: ProgramKey,
    form: Form,
    mesh: jax.sharding.Mesh,
) -> tuple[jax.stages.Compiled, CompileEvent]:
    """Trace and compile ahead of time for one padded shape of a replica's step; `weights` may be shapes only."""
    mesh_shape = Mesh(mesh.shape["data"], mesh.shape["model"])
    arguments = (weights, *program_shapes(config, key, weights.layers.k_ldkh.dtype, mesh))
    total = functools.partial(jax.lax.psum, axis_name="model") if mesh_shape.model > 1 else lambda part: part
    function = jax.shard_map(
        functools.partial(score_step, device_share(config, mesh_shape), key, form, total=total),
        mesh=mesh,
        in_specs=jax.tree.map(lambda leaf: leaf.sharding.spec, arguments),
        out_specs=(P("data"), KeptPrefix(KEPT, KEPT) if key.keeps_prefix else None),
        check_vma=False,  # a Pallas kernel does not say over which axes its result varies
    )
    name = f"{program_name(key)} {mesh_shape}"
    return devices.compile_ahead(jax.jit(function), arguments, mesh.devices.flat[0], name, tuned=True)


def program_shapes(config: DecoderConfig, key: ProgramKey, dtype: jnp.dtype, mesh: jax.sharding.Mesh) -> tuple:
    """Return the shapes of `score_step`'s arguments after the weights, for all devices together."""
    mesh_shape = Mesh(mesh.shape["data"], mesh.shape["model"])

    def array(*shape: int, dtype: jnp.dtype = jnp.int32, spec: P = EVERYWHERE) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    def items(length: int) -> jax.ShapeDtypeStruct:
        return array(mesh_shape.data * length, spec=P("data"))

    blocks = tuple(BlockInputs(items(b.t), items(b.t), items(b.t), items(b.s)) for b in key.shape.blocks)
    kept = (config.n_layers, key.shape.q, repeated_kv(config, mesh_shape).n_kv_heads, config.head_dim)
    given = None if key.shape.with_query else KeptPrefix(*(array(*kept, dtype=dtype, spec=KEPT) for _ in range(2)))
    return array(key.shape.q), array(), blocks, given, array(key.n_labels)
