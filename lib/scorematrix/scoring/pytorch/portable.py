"""The portable view in PyTorch: query and chunk packed into one sequence under a dense mask.

Step for step the same as scoring/jax/portable.py; eager, so there is nothing to compile.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scorematrix.models.catalogue import Model
from scorematrix.models.config import DecoderConfig
from scorematrix.models.weights import DecoderWeights, LayerWeights
from scorematrix.scoring.contract import AskedDType, CompileEvent, Scores
from scorematrix.scoring.packing import QUERY_SEGMENT, PackedChunk, pack, packed_shape
from scorematrix.scoring.pytorch import device as devices
from scorematrix.scoring.pytorch.model import (
    einsum,
    embed,
    feed_forward,
    label_probabilities,
    linear,
    project_qkv,
    rms_norm,
    rotary_tables,
)
from scorematrix.scoring.rotary import inverse_frequencies
from scorematrix.workload.request import ScoreRequest


class PortableBackend:
    """Backend `pytorch`, view `portable`."""

    def __init__(self, model: Model, *, device: str = "auto", dtype: AskedDType = "auto") -> None:
        self._device = devices.choose_device(device)
        dtype, why = devices.choose_dtype(dtype, self._device)
        self.info = devices.describe(model, "portable", self._device, dtype, dtype_choice=why)
        self.compile_events: list[CompileEvent] = []
        self._config = model.config
        self._weights = devices.place_weights(model.weights, dtype, self._device)
        self._layers = devices.layer_slices(self._weights.layers, model.config.n_layers)
        self._inverse_frequency = torch.from_numpy(inverse_frequencies(model.config)).to(self._device)

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        pass  # Eager execution compiles no programs.

    @torch.inference_mode()
    def score(self, request: ScoreRequest) -> Scores:
        request.check_vocabulary(self._config.vocab_size)
        chunk = pack(request)
        inputs = program_inputs(chunk, request.label_ids, self._device)
        probabilities_sc = score_packed(
            self._config, request.apply_softmax, self._weights, self._layers, self._inverse_frequency, *inputs
        )
        return probabilities_sc.cpu().numpy()[: chunk.n_items]

    def computed_tokens(self, request: ScoreRequest) -> int:
        """Return the number of tokens that a call computes, padding included."""
        return packed_shape(request)[0]


def program_inputs(chunk: PackedChunk, label_ids: Sequence[int], device: torch.device) -> list[Tensor]:
    """Return the arrays that change from call to call, in the order of `score_packed`."""
    arrays = chunk.token_t, chunk.position_t, chunk.segment_t, chunk.scored_s, np.asarray(label_ids, np.int32)
    return [torch.from_numpy(array).to(device) for array in arrays]


def score_packed(
    config: DecoderConfig,
    apply_softmax: bool,
    weights: DecoderWeights[Tensor],
    layers: Sequence[LayerWeights[Tensor]],
    inverse_frequency: Float[Tensor, " half"],
    token_t: Int[Tensor, " t"],
    position_t: Int[Tensor, " t"],
    segment_t: Int[Tensor, " t"],
    scored_s: Int[Tensor, " s"],
    label_c: Int[Tensor, " c"],
) -> Float[Tensor, "s c"]:
    """Run the forward pass over one packed sequence."""
    cos_th, sin_th = rotary_tables(position_t, inverse_frequency)
    mask_tt = attention_mask(segment_t)

    x_td = embed(config, weights.embed_vd, token_t)
    for layer in layers:
        x_td = decoder_layer(config, layer, x_td, cos_th, sin_th, mask_tt)
    hidden_sd = rms_norm(config, x_td[scored_s], weights.final_norm_d)
    return label_probabilities(hidden_sd, weights.head_vd, label_c, apply_softmax)


def decoder_layer(
    config: DecoderConfig, layer: LayerWeights[Tensor], x_td: Tensor, cos_th: Tensor, sin_th: Tensor, mask_tt: Tensor
) -> Tensor:
    """Add attention's output, then the feed-forward part, to the float32 residual stream."""
    q_tnh, k_tkh, v_tkh = project_qkv(config, layer, x_td, cos_th, sin_th)
    attended_tnh = masked_attention(q_tnh, k_tkh, v_tkh, mask_tt, layer.q_ldnh.dtype)
    x_td = x_td + linear(attended_tnh.flatten(1), layer.o_lnhd.flatten(0, 1))
    return x_td + feed_forward(config, layer, x_td)


def attention_mask(segment_t: Int[Tensor, " t"]) -> Bool[Tensor, "t u"]:
    """Return True where token t may look at token u: u is not ahead, and in t's segment or the query."""
    order_t = torch.arange(segment_t.shape[0], device=segment_t.device)
    causal_tu = order_t[:, None] >= order_t[None, :]
    same_tu = segment_t[:, None] == segment_t[None, :]
    return causal_tu & (same_tu | (segment_t == QUERY_SEGMENT)[None, :])


def masked_attention(
    q_tnh: Float[Tensor, "t n h"],
    k_tkh: Float[Tensor, "t k h"],
    v_tkh: Float[Tensor, "t k h"],
    mask_tu: Bool[Tensor, "t u"],
    dtype: torch.dtype,
) -> Float[Tensor, "t n h"]:
    """Compute grouped-query attention with every score in memory.

    Scores and softmax are float32 for all weights. PyTorch would round bfloat16 scores, in steps of 0.125 near 20.
    """
    t, n, h = q_tnh.shape
    k = k_tkh.shape[1]
    q_tkgh = q_tnh.reshape(t, k, n // k, h)
    scores_kgtu = einsum("tkgh,ukh->kgtu", q_tkgh, k_tkh, torch.float32) * h**-0.5
    scores_kgtu = torch.where(mask_tu, scores_kgtu, -torch.inf)
    weights_kgtu = torch.softmax(scores_kgtu, dim=-1)
    return einsum("kgtu,ukh->tkgh", weights_kgtu, v_tkh, dtype).reshape(t, n, h)
