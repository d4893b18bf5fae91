"""The best-native view in PyTorch: the query computed once, one joint pass per layer over query and item tokens.

It mirrors scoring/jax/best_native.py. The code between attention kernels is compiled once for all lengths.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from scorematrix.models.catalogue import Model
from scorematrix.models.config import DecoderConfig
from scorematrix.models.weights import DecoderWeights, LayerWeights
from scorematrix.scoring.contract import AskedDType, CompileEvent, DType, Scores
from scorematrix.scoring.forms import checked_form
from scorematrix.scoring.prefix_cache import PrefixCache
from scorematrix.scoring.pytorch import device as devices
from scorematrix.scoring.pytorch.attention import (
    BlockInputs,
    Form,
    Prefix,
    attention_forms,
    find_own_items,
    joint_attention,
    scored_attention,
)
from scorematrix.scoring.pytorch.compiled import compile_counts, compile_mode, compiled, load_compiler
from scorematrix.scoring.pytorch.graphs import MOST_GRAPHS, StepGraphs
from scorematrix.scoring.pytorch.model import (
    embed,
    feed_forward,
    label_probabilities_tiled,
    linear,
    project_qkv,
    rms_norm,
    rotary_tables,
)
from scorematrix.scoring.pytorch.products import matmul, matmul_name
from scorematrix.scoring.pytorch.profiles import part
from scorematrix.scoring.rotary import inverse_frequencies
from scorematrix.scoring.shared_prefix import (
    ProgramKey,
    Step,
    keyed_steps,
    read_out,
    shortened,
    split_items,
    tokens_a_step,
)
from scorematrix.workload.request import ScoreRequest

Finish = Callable[[DecoderConfig, LayerWeights[Tensor], Tensor, Tensor], Tensor]
"""`finish_layer`, or its replacement for a layer that is split over devices."""


class BestNativeBackend:
    """Backend `pytorch`, view `best_native`.

    Args:
        step_tokens: most item tokens computed together; None: as many as a share of the memory allows.
        reuse_prefix: number of queries whose keys and values are kept for calls with the same query.
        attention: a form that the device supports; None: the likely fastest.
    """

    _most_graphs: ClassVar[int] = MOST_GRAPHS

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
        self.compile_events: list[CompileEvent] = []
        self._config, self._weights, self._layers = self._placed(model, dtype)
        self._finish: Finish = finish_layer
        forms = attention_forms(self._device, dtype, model.config.head_dim)
        self.attention_forms = forms
        self._form: Form = checked_form(attention, forms)
        self._kept: PrefixCache[list[Prefix]] = PrefixCache(reuse_prefix)
        self._inverse_frequency = torch.from_numpy(inverse_frequencies(model.config)).to(self._device)
        budget = devices.step_budget_bytes(self._device)
        self._step_tokens = step_tokens or tokens_a_step(self._config, budget)
        self._graphs: StepGraphs | None = None
        cuda_settings = {}
        if self._device.type == "cuda":
            cuda_settings = {"cuda_graphs": self._most_graphs}
            self._graphs = StepGraphs(self._most_graphs) if self._most_graphs else None
        load_compiler(self._device)
        self.info = devices.describe(
            model,
            "best_native",
            self._device,
            dtype,
            dtype_choice=why,
            compile=compile_mode(self._device),
            attention=self._form,
            step_tokens=self._step_tokens,
            reuse_prefix=reuse_prefix,
            **cuda_settings,
            matmul=matmul_name(self._device, self._weights.embed_vd.dtype),
        )

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        # A graph serves all lengths, so a short request with the same length classes of items compiles all graphs.
        for short in {shortened(request) for request in requests}:
            self.score(short)
            # Items whose query is known use another graph.
            if self._kept.limit or any(len(split_items(request, self._step_tokens)) > 1 for request in requests):
                known = PrefixCache[list[Prefix]](1)
                self._score(short, known)
                self._score(short, known)
        self._kept.clear()
        if self._graphs is not None:
            self._record_graphs(self._graphs, requests)

    def with_attention(self, form: str) -> BestNativeBackend:
        """Return an engine on the same weights that uses a form of attention."""
        other = copy.copy(self)
        other._form = checked_form(form, self.attention_forms)
        other._kept, other.compile_events = PrefixCache(self._kept.limit), []
        other._graphs = StepGraphs(self._most_graphs) if self._graphs is not None else None
        other.info = dataclasses.replace(self.info, settings=self.info.settings | {"attention": form})
        return other

    def score(self, request: ScoreRequest) -> Scores:
        return self._score(request, self._kept)

    def computed_tokens(self, request: ScoreRequest) -> int:
        """Return the number of tokens that a call computes, padding included."""
        return sum(step.shape.n_tokens for step, _ in self._steps(request, query_known=False))

    def _placed(
        self, model: Model, dtype: DType
    ) -> tuple[DecoderConfig, DecoderWeights[Tensor], list[LayerWeights[Tensor]]]:
        """Return the config and the weights of what this process computes."""
        weights = devices.place_weights(model.weights, dtype, self._device)
        return model.config, weights, devices.layer_slices(weights.layers, model.config.n_layers)

    @torch.inference_mode()
    def _score(self, request: ScoreRequest, known: PrefixCache[list[Prefix]]) -> Scores:
        request.check_vocabulary(self._config.vocab_size)
        start, before = time.perf_counter(), compile_counts()
        prefix, results = known.get(request.query_ids), []
        for step, key in self._steps(request, prefix is not None, keeps_query=known.limit > 0):
            inputs, given = program_inputs(step, request.label_ids), None if step.shape.with_query else prefix
            made_prefix: list[Prefix] | None = None
            if self._graphs is not None and key in self._graphs:
                probabilities_sc = self._graphs.run(key, inputs, given)
            else:
                probabilities_sc, made_prefix = self._launch(key, inputs.to(self._device), given)
            results.append((step, probabilities_sc))
            if made_prefix is not None:  # `key.keeps_prefix` is set; no such step is recorded as a graph
                prefix = made_prefix
                known.put(request.query_ids, prefix)
        scores = read_out(request, [(step, probabilities_sc.cpu().numpy()) for step, probabilities_sc in results])
        if (made := compile_counts() - before).n_graphs:
            seconds = time.perf_counter() - start
            name = f"best_native {made.n_graphs} graphs, first run included"
            self.compile_events.append(CompileEvent(name, 0.0, seconds, made.n_cached == made.n_graphs))
        return scores

    def _steps(
        self, request: ScoreRequest, query_known: bool, keeps_query: bool = False
    ) -> list[tuple[Step, ProgramKey]]:
        return keyed_steps(request, self._step_tokens, query_known=query_known, keeps_query=keeps_query, buckets=False)

    def _launch(
        self, key: ProgramKey, inputs: Tensor, given: list[Prefix] | None
    ) -> tuple[Tensor, list[Prefix] | None]:
        return score_step(
            self._config,
            key,
            self._form,
            self._weights,
            self._layers,
            self._inverse_frequency,
            inputs,
            given,
            self._finish,
        )

    @torch.inference_mode()
    def _record_graphs(self, graphs: StepGraphs, requests: Sequence[ScoreRequest]) -> None:
        """Record the requests' steps, except those that keep the query's keys and values."""
        start, before = time.perf_counter(), len(graphs)
        longest = max((len(request.query_ids) for request in requests), default=0)
        for request in requests:
            for query_known in [False, True] if self._kept.limit else [False]:
                for step, key in self._steps(request, query_known, keeps_query=self._kept.limit > 0):
                    if key.keeps_prefix or key in graphs:
                        continue
                    inputs = program_inputs(step, request.label_ids).to(self._device)
                    graphs.record(key, self._launch, inputs, lambda: self._blank_prefix(longest))
        if made := len(graphs) - before:
            name = f"best_native {made} CUDA graphs recorded"
            self.compile_events.append(CompileEvent(name, 0.0, time.perf_counter() - start, False))
        if graphs.shortfall:
            fallback = f"{graphs.shortfall}; other steps are launched kernel by kernel"
            self.info = dataclasses.replace(self.info, fallbacks=(fallback,))

    def _blank_prefix(self, n_query: int) -> list[Prefix]:
        blank = self._weights.embed_vd.new_zeros(n_query, self._config.n_kv_heads, self._config.head_dim)
        return [Prefix(blank.clone(), blank.clone()) for _ in self._layers]


def program_inputs(step: Step, label_ids: Sequence[int]) -> Int[Tensor, " n"]:
    """Concatenate the arrays that change from step to step on the host; one transfer moves them to the device."""
    blocks = (array for b in step.blocks for array in (b.token_t, b.position_t, b.item_t, b.scored_s))
    query_q = step.query_q[: step.shape.n_query_tokens]
    return torch.from_numpy(np.concatenate([query_q, *blocks, np.asarray(label_ids, np.int32)]))


def split_inputs(key: ProgramKey, inputs: Int[Tensor, " n"]) -> tuple[Tensor, list[BlockInputs], Tensor]:
    """Split the inputs into the query's tokens if the step computes them, each block's inputs, and the labels."""
    sizes = [size for block in key.shape.blocks for size in (block.t, block.t, block.t, block.s)]
    query_q, *arrays, label_c = inputs.split([key.shape.n_query_tokens, *sizes, key.n_labels])
    return query_q, [BlockInputs(*arrays[i : i + 4]) for i in range(0, len(arrays), 4)], label_c


def score_step(
    config: DecoderConfig,
    key: ProgramKey,
    form: Form,
    weights: DecoderWeights[Tensor],
    layers: Sequence[LayerWeights[Tensor]],
    inverse_frequency: Float[Tensor, " half"],
    inputs: Int[Tensor, " n"],
    given: list[Prefix] | None,
    finish: Finish,
) -> tuple[Float[Tensor, "s c"], list[Prefix] | None]:
    """Run a step's forward pass and return the probabilities, and the query's keys and values if wanted."""
    shape, (query_q, blocks, label_c) = key.shape, split_inputs(key, inputs)
    token_t = torch.cat([query_q, *(block.token_t for block in blocks)])
    query_position_q = torch.arange(shape.n_query_tokens, device=inputs.device)
    position_t = torch.cat([query_position_q, *(block.position_t for block in blocks)])
    rotary = rotary_tables(position_t, inverse_frequency)
    scored_s = torch.cat([block.scored_s + s.start for block, s in zip(blocks, shape.block_slices, strict=True)])
    own_items = find_own_items(blocks, shape, form)
    kept: list[Prefix] = []

    def keys_and_values(l: int, k_tkh: Tensor, v_tkh: Tensor) -> Prefix:
        if given is not None:
            return given[l]
        prefix = Prefix(k_tkh[: shape.q], v_tkh[: shape.q])
        if key.keeps_prefix:
            # Copies, so that the items' keys and values can be freed.
            kept.append(Prefix(prefix.keys_qkh.clone(), prefix.values_qkh.clone()))
        return prefix

    x_td = embed(config, weights.embed_vd, token_t)
    for l, layer in enumerate(layers[:-1]):
        q_tnh, k_tkh, v_tkh = project(config, layer, x_td, *rotary)
        prefix = keys_and_values(l, k_tkh, v_tkh)
        attended_tnh = joint_attention(q_tnh, k_tkh, v_tkh, prefix, own_items, shape, form)
        x_td = finish(config, layer, x_td, attended_tnh)

    # The last layer needs only the scored positions, and every token's keys and values.
    _, k_tkh, v_tkh = project(config, layers[-1], x_td, *rotary)
    x_sd = x_td[scored_s]
    q_snh, _, _ = project(config, layers[-1], x_sd, *(table[scored_s] for table in rotary))
    prefix = keys_and_values(len(layers) - 1, k_tkh, v_tkh)
    attended_snh = scored_attention(q_snh, k_tkh, v_tkh, prefix, blocks, shape, form)
    x_sd = finish(config, layers[-1], x_sd, attended_snh)
    hidden_sd = rms_norm(config, x_sd, weights.final_norm_d)
    with part("head"):
        scores_sc = label_probabilities_tiled(hidden_sd, weights.head_vd, label_c, key.apply_softmax)
    return scores_sc, kept if key.keeps_prefix else None


@compiled
def project(
    config: DecoderConfig, layer: LayerWeights[Tensor], x_td: Tensor, cos_th: Tensor, sin_th: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return scaled queries, keys and values in the weights' format."""
    q_tnh, k_tkh, v_tkh = project_qkv(config, layer, x_td, cos_th, sin_th, matmul)
    dtype = layer.k_ldkh.dtype
    return (q_tnh * config.head_dim**-0.5).to(dtype), k_tkh.to(dtype), v_tkh.to(dtype)


@compiled
def finish_layer(
    config: DecoderConfig, layer: LayerWeights[Tensor], x_td: Float[Tensor, "t d"], attended_tnh: Float[Tensor, "t n h"]
) -> Float[Tensor, "t d"]:
    """Add attention's output, then the feed-forward part, to the float32 residual stream."""
    x_td = x_td + linear(attended_tnh.flatten(1), layer.o_lnhd.flatten(0, 1), matmul)
    return x_td + feed_forward(config, layer, x_td, matmul)
