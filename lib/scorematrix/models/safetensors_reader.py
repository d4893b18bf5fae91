"""Read weights from a Hugging Face folder: config.json and safetensors, one file or shards. No pickle, no code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scorematrix.models.config import ARCHITECTURES, DecoderConfig, RopeScaling
from scorematrix.models.weights import DecoderWeights, check_weights, expected_shapes

CONFIG_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "ffn_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "rms_norm_eps": "rms_norm_eps",
}
"""Our names of the numbers in config.json, and Hugging Face's."""
GELU = "gelu_pytorch_tanh"
HF_TOP_LEAVES = {
    "embed_vd": "model.embed_tokens.weight",
    "final_norm_d": "model.norm.weight",
    "head_vd": "lm_head.weight",
}
HF_LEAVES = {
    "attn_norm_ld": "input_layernorm.weight",
    "q_ldnh": "self_attn.q_proj.weight",
    "k_ldkh": "self_attn.k_proj.weight",
    "v_ldkh": "self_attn.v_proj.weight",
    "o_lnhd": "self_attn.o_proj.weight",
    "mlp_norm_ld": "post_attention_layernorm.weight",
    "gate_ldf": "mlp.gate_proj.weight",
    "up_ldf": "mlp.up_proj.weight",
    "down_lfd": "mlp.down_proj.weight",
    "q_bias_lnh": "self_attn.q_proj.bias",
    "k_bias_lkh": "self_attn.k_proj.bias",
    "v_bias_lkh": "self_attn.v_proj.bias",
    "q_norm_lh": "self_attn.q_norm.weight",
    "k_norm_lh": "self_attn.k_norm.weight",
}


def read_hf_config(folder: Path) -> DecoderConfig:
    """Return config.json as our config.

    Raises:
        ValueError: naming the first field, with its value, that this workspace does not support.
    """
    path = folder / "config.json"
    try:
        raw: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"model folder {folder} has no config.json; give a Hugging Face model folder") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a complete JSON file ({error}); fetch the model again") from None
    known = {architecture.hf_class: name for name, architecture in ARCHITECTURES.items()}
    names = raw.get("architectures") or ["none named"]
    if names[0] not in known:
        raise ValueError(f"{path}: architectures={names[0]!r} is not supported; supported: {', '.join(known)}")
    architecture = known[names[0]]
    _refuse_unsupported(path, raw, architecture)
    rope = {"rope_theta": raw.get("rope_theta", 10000.0)} | (raw.get("rope_scaling") or {})
    rope |= raw.get("rope_parameters") or {}

    heads = raw.get("num_attention_heads")
    derived = {"num_key_value_heads": heads, "head_dim": heads and (raw.get("hidden_size") or 0) // heads}
    raw = derived | {key: value for key, value in raw.items() if value is not None}
    if missing := [key for key in CONFIG_KEYS.values() if raw.get(key) is None]:
        raise ValueError(f"{path}: {missing[0]} is missing; fetch the model again")
    return DecoderConfig(
        architecture=architecture,
        **{field: raw[key] for field, key in CONFIG_KEYS.items()},
        rope_theta=float(rope["rope_theta"]),
        rope_scaling=_rope_scaling(path, rope),
        tied_head=bool(raw.get("tie_word_embeddings", ARCHITECTURES[architecture].tied_head)),
    )


def read_hf_weights(folder: Path, config: DecoderConfig) -> DecoderWeights[np.ndarray]:
    """Return the tree in the checkpoint's number format; mixed formats become float32, which is exact for each.

    Raises:
        ValueError: naming a file or tensor that is missing, misshapen, or not finite.
    """
    tensors = _Tensors(folder)
    return weights_of(config, tensors.files.__contains__, tensors.read)


def weights_of(
    config: DecoderConfig, has: Callable[[str], bool], read: Callable[[str], np.ndarray]
) -> DecoderWeights[np.ndarray]:
    """Return the tree of a checkpoint, checked.

    Args:
        has: whether there is a tensor, by its Hugging Face name.
        read: returns a tensor by that name, linear weights as [out, in].
    """
    shapes, leaves = expected_shapes(config), {}
    for leaf, part in HF_LEAVES.items():
        names = [f"model.layers.{l}.{part}" for l in range(config.n_layers)]
        if any(map(has, names)):  # check_weights reports a leaf that should be there
            shape = shapes.get(f"layers.{leaf}", ())
            leaves[f"layers.{leaf}"] = np.stack([_as_leaf(read(name), shape[1:]) for name in names])
    top = {leaf: name for leaf, name in HF_TOP_LEAVES.items() if leaf in shapes}
    leaves |= {leaf: read(name) for leaf, name in top.items()}
    if len({a.dtype for a in leaves.values()}) > 1:
        leaves = {name: array.astype(np.float32) for name, array in leaves.items()}
    weights = DecoderWeights.from_leaves(leaves)
    check_weights(config, weights)
    return weights


def _as_leaf(tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return one layer's tensor in our layout, [in..., out...], with the heads as a dimension."""
    return tensor.T.reshape(shape) if len(shape) > tensor.ndim else tensor.T


class _Tensors:
    """Tensors by name over one or several safetensors files."""

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
        if index.is_file():
            shards = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
            if strange := [name for name in shards if Path(name).name != name]:
                raise ValueError(f"{index}: shard {strange[0]!r} points outside the model folder; fetch it again")
            paths = [folder / name for name in shards]
        elif single.is_file():
            paths = [single]
        else:
            pickled = " (a pickled pytorch_model.bin is not read: it can run code)" * any(folder.glob("*.bin"))
            raise ValueError(f"model folder {folder} has no safetensors file{pickled}; fetch the safetensors version")
        self.files: dict[str, Any] = {}
        for path in paths:
            try:
                opened = safe_open(path, framework="numpy")
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{path} is not a valid safetensors file ({error}); fetch the model again") from None
            self.files |= dict.fromkeys(opened.keys(), opened)

    def read(self, name: str) -> np.ndarray:
        if name not in self.files:
            raise ValueError(f"weights: tensor {name} is missing from the checkpoint; fetch the model again")
        tensor = self.files[name].get_tensor(name)
        if tensor.dtype.name not in ("float32", "float16", "bfloat16"):
            raise ValueError(f"weights: tensor {name} is {tensor.dtype.name}; supported: float32, float16, bfloat16")
        return tensor


def _refuse_unsupported(path: Path, raw: dict[str, Any], architecture: str) -> None:
    family = ARCHITECTURES[architecture]
    refused = {
        "quantization_config": bool(raw.get("quantization_config")),
        "use_sliding_window": bool(raw.get("use_sliding_window")),
        "attention_bias": bool(raw.get("attention_bias")) and not family.qkv_bias,
        "mlp_bias": bool(raw.get("mlp_bias")),
        # Gemma's older files say gelu and mean the tanh form, which its newer ones name.
        "hidden_act": raw.get("hidden_act", GELU if family.gelu else "silu")
        not in (("gelu", GELU) if family.gelu else ("silu",)),
        "hidden_activation": family.gelu and raw.get("hidden_activation") not in (None, GELU),
        "use_bidirectional_attention": bool(raw.get("use_bidirectional_attention")),
        "partial_rotary_factor": raw.get("partial_rotary_factor", 1.0) != 1.0,
        "layer_types": any(kind != "full_attention" for kind in raw.get("layer_types") or ()),
    }
    for field, unsupported in refused.items():
        if unsupported:
            raise ValueError(
                f"{path}: {field}={raw[field]!r} is not supported; use a dense {architecture} model without it"
            )


def _rope_scaling(path: Path, rope: dict[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise ValueError(f"{path}: rope_type={kind!r} is not supported; supported: default, llama3")
    return RopeScaling(
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_max_positions=int(rope["original_max_position_embeddings"]),
    )
