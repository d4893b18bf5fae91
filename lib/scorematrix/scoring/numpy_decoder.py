"""A decoder in plain numpy: an example of a custom scorer, and a scorer for machines without a framework.

Params name it like any other custom scorer: `backend: "scorematrix.scoring.numpy_decoder:SharedPrefix"`.

Letters: t token, u token seen, d hidden, n query head, k key/value head, g head of a group, h head dimension,
s scored item, v vocabulary, c label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from scorematrix.models.catalogue import Model
from scorematrix.models.config import DecoderConfig
from scorematrix.models.weights import LayerWeights
from scorematrix.scoring.contract import BackendInfo, CompileEvent, Scores
from scorematrix.scoring.rotary import inverse_frequencies
from scorematrix.workload.request import ScoreRequest

Array = np.ndarray
KeysValues = list[tuple[Array, Array]]
"""Keys and values [t, k, h] of each layer."""


class _NumpyBackend:
    """Base of both scorers; each defines how to compute the items' last hidden states."""

    view = "own"

    def __init__(self, model: Model, *, device: str = "auto", dtype: str = "auto") -> None:
        """Use a model's weights.

        Raises:
            ValueError: for a device other than the CPU or a dtype other than float32.
        """
        if device not in ("auto", "cpu"):
            raise ValueError(f"device={device!r} cannot be used by numpy; use cpu")
        if dtype not in ("auto", "float32"):
            raise ValueError(f"dtype={dtype!r} cannot be used by numpy; use float32")
        self.model = model
        self.info = BackendInfo(
            backend=type(self).__name__,
            view=self.view,
            framework="numpy",
            device="cpu",
            dtype="float32",
            precision="float32 products, sums, head and softmax",
            settings={"numpy": np.__version__, "model": model.name},
        )
        self.compile_events: list[CompileEvent] = []

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        """Do nothing: numpy has no programs to make."""

    def score(self, request: ScoreRequest) -> Scores:
        """Score a request; see `Backend.score`."""
        request.check_vocabulary(self.model.config.vocab_size)
        return label_probabilities(self.model, self.last_hidden_sd(request), request)

    def last_hidden_sd(self, request: ScoreRequest) -> Float[Array, "s d"]:
        raise NotImplementedError


class PerItem(_NumpyBackend):
    """One sequence per item, nothing shared: the plainest exact scorer."""

    def last_hidden_sd(self, request: ScoreRequest) -> Float[Array, "s d"]:
        return np.stack([decode(self.model, [*request.query_ids, *ids])[0][-1] for ids in request.items_ids])


class SharedPrefix(_NumpyBackend):
    """Computes the query's keys and values once per call; each item attends to them."""

    def last_hidden_sd(self, request: ScoreRequest) -> Float[Array, "s d"]:
        _, query = decode(self.model, request.query_ids)
        return np.stack([decode(self.model, ids, query)[0][-1] for ids in request.items_ids])


def last_logits(model: Model, ids: Sequence[int]) -> Float[Array, " v"]:
    """Compute the logits of the token that follows `ids`, float32 over the full vocabulary."""
    return model.weights.head_vd.astype(np.float32, copy=False) @ decode(model, ids)[0][-1]


def decode(
    model: Model, ids: Sequence[int], prefix: KeysValues | None = None
) -> tuple[Float[Array, "t d"], KeysValues]:
    """Run tokens through the decoder, each seeing the prefix, the tokens before it and itself.

    Args:
        prefix: keys and values of the tokens before the first, as an earlier call returned them.

    Returns:
        The hidden states after the final norm, and keys and values of prefix and tokens, all float32.
    """
    config, weights = model.config, model.weights
    n_before = len(prefix[0][0]) if prefix else 0
    position_t = np.arange(n_before, n_before + len(ids))
    angle_th = np.tile(position_t[:, None] * inverse_frequencies(config), 2)
    cos_th, sin_th = np.cos(angle_th).astype(np.float32), np.sin(angle_th).astype(np.float32)
    hidden_tu = np.arange(n_before + len(ids)) > position_t[:, None]
    x_td = weights.embed_vd[list(ids)].astype(np.float32) * np.float32(config.embedding_scale)
    seen: KeysValues = []
    for i in range(config.n_layers):
        layer = _layer(weights.layers, i)
        q_tnh, k_tkh, v_tkh = _project_qkv(config, layer, x_td, cos_th, sin_th)
        if prefix:
            k_tkh, v_tkh = (np.concatenate(both) for both in zip(prefix[i], (k_tkh, v_tkh), strict=True))
        seen.append((k_tkh, v_tkh))
        x_td = x_td + _linear(_attend(q_tnh, k_tkh, v_tkh, hidden_tu).reshape(len(ids), -1), layer.o_lnhd, 2)
        x_td = x_td + _feed_forward(config, layer, x_td)
    return _rms_norm(config, x_td, weights.final_norm_d), seen


def label_probabilities(model: Model, hidden_sd: Float[Array, "s d"], request: ScoreRequest) -> Scores:
    """Apply the head, then a softmax over the labels or the labels' share of the full vocabulary."""
    head_vd, labels = model.weights.head_vd, list(request.label_ids)
    logits_sc = hidden_sd @ head_vd[labels].astype(np.float32).T
    logits = logits_sc if request.apply_softmax else hidden_sd @ head_vd.astype(np.float32, copy=False).T
    top_s = logits.max(axis=1, keepdims=True)
    return np.exp(logits_sc - top_s) / np.exp(logits - top_s).sum(axis=1, keepdims=True)


def _layer(layers: LayerWeights[np.ndarray], i: int) -> LayerWeights[np.ndarray]:
    """Return one layer's weights in float32, without the dimension l of the leaf names."""
    return layers.mapped(lambda leaf: leaf[i].astype(np.float32, copy=False))


def _linear(x_ti: Array, weight: Array, n_inputs: int = 1) -> Array:
    """Multiply rows by a weight [in..., out...], summed over its first `n_inputs` dimensions."""
    matrix = weight.reshape(x_ti.shape[1], -1)
    return (x_ti @ matrix).reshape(len(x_ti), *weight.shape[n_inputs:])


def _rms_norm(config: DecoderConfig, x: Array, weight: Array) -> Array:
    scale = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(config.rms_norm_eps))
    return (weight.astype(np.float32, copy=False) + np.float32(config.family.norm_offset)) * (x / scale)


def _rotate(x_tnh: Array, cos_th: Array, sin_th: Array) -> Array:
    """Apply the rotary embedding to pairs (i, i + h/2)."""
    low, high = np.split(x_tnh, 2, axis=-1)
    return x_tnh * cos_th[:, None] + np.concatenate([-high, low], axis=-1) * sin_th[:, None]


def _project_qkv(
    config: DecoderConfig, layer: LayerWeights[np.ndarray], x_td: Array, cos_th: Array, sin_th: Array
) -> tuple[Array, Array, Array]:
    x_td = _rms_norm(config, x_td, layer.attn_norm_ld)
    q_tnh, k_tkh, v_tkh = (_linear(x_td, w) for w in (layer.q_ldnh, layer.k_ldkh, layer.v_ldkh))
    if layer.q_bias_lnh is not None and layer.k_bias_lkh is not None and layer.v_bias_lkh is not None:
        q_tnh, k_tkh, v_tkh = q_tnh + layer.q_bias_lnh, k_tkh + layer.k_bias_lkh, v_tkh + layer.v_bias_lkh
    if layer.q_norm_lh is not None and layer.k_norm_lh is not None:
        q_tnh = _rms_norm(config, q_tnh, layer.q_norm_lh)
        k_tkh = _rms_norm(config, k_tkh, layer.k_norm_lh)
    return _rotate(q_tnh, cos_th, sin_th), _rotate(k_tkh, cos_th, sin_th), v_tkh


def _attend(q_tnh: Array, k_ukh: Array, v_ukh: Array, hidden_tu: Array) -> Float[Array, "t n h"]:
    """Compute softmax attention; groups of neighbouring query heads share a key/value head."""
    n_tokens, n_heads, size = q_tnh.shape
    q_kgth = q_tnh.reshape(n_tokens, k_ukh.shape[1], -1, size).transpose(1, 2, 0, 3)
    scores_kgtu = q_kgth @ k_ukh.transpose(1, 2, 0)[:, None] / np.float32(np.sqrt(size))
    scores_kgtu[:, :, hidden_tu] = -np.inf
    weights_kgtu = np.exp(scores_kgtu - scores_kgtu.max(axis=-1, keepdims=True))
    weights_kgtu /= weights_kgtu.sum(axis=-1, keepdims=True)
    out_kgth = weights_kgtu @ v_ukh.transpose(1, 0, 2)[:, None]
    return out_kgth.transpose(2, 0, 1, 3).reshape(n_tokens, n_heads, size)


def _feed_forward(config: DecoderConfig, layer: LayerWeights[np.ndarray], x_td: Array) -> Array:
    x_td = _rms_norm(config, x_td, layer.mlp_norm_ld)
    gate_tf, up_tf = _linear(x_td, layer.gate_ldf), _linear(x_td, layer.up_ldf)
    if config.family.gelu:  # its tanh form; 0.5 * (1 + tanh(z)) = 1 / (1 + exp(-2 * z))
        slope_tf = np.float32(2 * np.sqrt(2 / np.pi)) * (1 + np.float32(0.044715) * gate_tf * gate_tf)
    else:
        slope_tf = np.float32(1)
    return _linear(gate_tf / (1 + np.exp(-slope_tf * gate_tf)) * up_tf, layer.down_lfd)
