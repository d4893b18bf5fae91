"""The decoder parts that all PyTorch views share, as plain functions of tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from scorematrix.models.config import DecoderConfig
from scorematrix.models.weights import LayerWeights
from scorematrix.scoring.pytorch import products

VOCABULARY_TILE = 8192

MatMul = Callable[[Tensor, Tensor], Tensor]
"""`torch.mm`, which the portable view uses, or `products.matmul`."""


def einsum(spec: str, a: Tensor, b: Tensor, dtype: torch.dtype) -> Float[Tensor, "..."]:
    """Multiply operands in the weights' format, with float32 sums and a float32 result.

    Float32 products have full precision: TF32 is off by default. PyTorch rounds bfloat16 products to bfloat16.
    """
    return torch.einsum(spec, a.to(dtype), b.to(dtype)).float()


def linear(x_ti: Float[Tensor, "t i"], weight: Tensor, matmul: MatMul = torch.mm) -> Float[Tensor, "t ..."]:
    """Multiply rows by a weight [i, ...] like `einsum`, but as one plain matrix product, which einsum would not do."""
    product = matmul(x_ti.to(weight.dtype), weight.flatten(1)).float()
    return product.reshape(x_ti.shape[0], *weight.shape[1:])


def embed(config: DecoderConfig, embed_vd: Float[Tensor, "v d"], token_t: Int[Tensor, " t"]) -> Float[Tensor, "t d"]:
    """Look up the tokens' float32 embeddings."""
    x_td = embed_vd[token_t].float()
    return x_td * config.embedding_scale if config.embedding_scale != 1 else x_td


def rms_norm(config: DecoderConfig, x: Float[Tensor, "... d"], weight_d: Float[Tensor, " d"]) -> Float[Tensor, "... d"]:
    """Apply the root-mean-square norm to float32 activations."""
    scale_d = weight_d.float() + config.family.norm_offset if config.family.norm_offset else weight_d.float()
    return scale_d * x * torch.rsqrt(torch.mean(x * x, dim=-1, keepdim=True) + config.rms_norm_eps)


def rotate(
    x_tnh: Float[Tensor, "t n h"], cos_th: Float[Tensor, "t h"], sin_th: Float[Tensor, "t h"]
) -> Float[Tensor, "t n h"]:
    """Apply the rotary embedding to pairs (i, i + h/2)."""
    half = sin_th.shape[-1] // 2
    turned_tnh = x_tnh.unflatten(-1, (2, half)).flip(-2).flatten(-2)  # compiled, a flip is read in place, a cat is not
    signed_th = torch.cat([-sin_th[:, :half], sin_th[:, half:]], dim=-1)
    return x_tnh * cos_th[:, None] + turned_tnh * signed_th[:, None]


def rotary_tables(position_t: Int[Tensor, " t"], inverse_frequency: Float[Tensor, " half"]) -> tuple[Tensor, Tensor]:
    """Return cos and sin of every position, float32 [t, h]."""
    angle = position_t.float()[:, None] * inverse_frequency
    angle_th = torch.cat([angle, angle], dim=-1)
    return torch.cos(angle_th), torch.sin(angle_th)


def project_qkv(
    config: DecoderConfig,
    layer: LayerWeights[Tensor],
    x_td: Tensor,
    cos_th: Tensor,
    sin_th: Tensor,
    matmul: MatMul = torch.mm,
) -> tuple[Tensor, Tensor, Tensor]:
    """Project activations to float32 q [t,n,h], k and v [t,k,h]; norms, biases and rotation follow the architecture.

    `layer` is one slice of the stacked weights: its leaves lack the l axis of their names.
    """
    x_td = rms_norm(config, x_td, layer.attn_norm_ld)
    q_tnh = linear(x_td, layer.q_ldnh, matmul)
    k_tkh = linear(x_td, layer.k_ldkh, matmul)
    v_tkh = linear(x_td, layer.v_ldkh, matmul)
    if config.has_qkv_bias:
        assert layer.q_bias_lnh is not None and layer.k_bias_lkh is not None and layer.v_bias_lkh is not None
        q_tnh, k_tkh, v_tkh = q_tnh + layer.q_bias_lnh, k_tkh + layer.k_bias_lkh, v_tkh + layer.v_bias_lkh
    if config.has_qk_norm:
        assert layer.q_norm_lh is not None and layer.k_norm_lh is not None
        q_tnh = rms_norm(config, q_tnh, layer.q_norm_lh)
        k_tkh = rms_norm(config, k_tkh, layer.k_norm_lh)
    return rotate(q_tnh, cos_th, sin_th), rotate(k_tkh, cos_th, sin_th), v_tkh


def feed_forward(config: DecoderConfig, layer: LayerWeights[Tensor], x_td: Tensor, matmul: MatMul = torch.mm) -> Tensor:
    """Return the gated feed-forward block's contribution to the residual stream."""
    x_td = rms_norm(config, x_td, layer.mlp_norm_ld)
    gate_tf = linear(x_td, layer.gate_ldf, matmul)
    gate_tf = F.gelu(gate_tf, approximate="tanh") if config.family.gelu else F.silu(gate_tf)
    up_tf = linear(x_td, layer.up_ldf, matmul)
    return linear(gate_tf * up_tf, layer.down_lfd, matmul)


def label_probabilities(
    hidden_sd: Float[Tensor, "s d"], head_vd: Float[Tensor, "v d"], label_c: Int[Tensor, " c"], apply_softmax: bool
) -> Float[Tensor, "s c"]:
    """Apply head and softmax in float32: over the labels, or the labels' share of the full vocabulary."""
    logits_sc = einsum("sd,cd->sc", hidden_sd, head_vd[label_c], torch.float32)
    if apply_softmax:
        return torch.softmax(logits_sc, dim=-1)
    logits_sv = einsum("sd,vd->sv", hidden_sd, head_vd, torch.float32)
    return torch.exp(logits_sc - torch.logsumexp(logits_sv, dim=-1, keepdim=True))


def label_probabilities_tiled(
    hidden_sd: Float[Tensor, "s d"], head_vd: Float[Tensor, "v d"], label_c: Int[Tensor, " c"], apply_softmax: bool
) -> Float[Tensor, "s c"]:
    """Return the same probabilities, computing the vocabulary's logits in tiles to need memory for only one tile."""
    if apply_softmax:
        return label_probabilities(hidden_sd, head_vd, label_c, True)
    lse_s = hidden_sd.new_full((hidden_sd.shape[0],), -torch.inf)
    for tile_vd in head_vd.split(VOCABULARY_TILE):
        logits_sv = products.matmul(hidden_sd.float(), tile_vd.float().t())
        lse_s = torch.logaddexp(lse_s, torch.logsumexp(logits_sv, dim=-1))
    logits_sc = einsum("sd,cd->sc", hidden_sd, head_vd[label_c], torch.float32)
    return torch.exp(logits_sc - lse_s[:, None])
