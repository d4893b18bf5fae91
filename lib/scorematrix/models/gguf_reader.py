"""Read weights and config from a GGUF file (llama, qwen2, qwen3) with the gguf package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scorematrix.models.config import DecoderConfig
from scorematrix.models.weights import DecoderWeights, LayerWeights, check_weights

ARCHITECTURES = ("llama", "qwen2", "qwen3")

# leaf: (name in a block, whether the tensor is a matrix [out, in])
GGUF_LEAVES = {
    "attn_norm_ld": "attn_norm.weight",
    "q_ldnh": "attn_q.weight",
    "k_ldkh": "attn_k.weight",
    "v_ldkh": "attn_v.weight",
    "o_lnhd": "attn_output.weight",
    "mlp_norm_ld": "ffn_norm.weight",
    "gate_ldf": "ffn_gate.weight",
    "up_ldf": "ffn_up.weight",
    "down_lfd": "ffn_down.weight",
    "q_bias_lnh": "attn_q.bias",
    "k_bias_lkh": "attn_k.bias",
    "v_bias_lkh": "attn_v.bias",
    "q_norm_lh": "attn_q_norm.weight",
    "k_norm_lh": "attn_k_norm.weight",
}


class GGUFFile:
    """An open GGUF file: metadata by key, tensors dequantised to float32 on demand."""

    def __init__(self, path: Path) -> None:
        import gguf

        self.path = path
        try:
            self._reader = gguf.GGUFReader(str(path))
        except (ValueError, OSError, IndexError) as error:
            raise ValueError(f"model file {path} is not a valid GGUF file ({error}); fetch it again") from None
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}

    def get(self, key: str, default: Any = None) -> Any:
        """Return a metadata value."""
        field = self._reader.fields.get(key)
        return default if field is None else field.contents()

    def tensor(self, name: str) -> np.ndarray | None:
        """Return a tensor in numpy's order of dimensions, float32; None if there is none."""
        import gguf

        tensor = self._tensors.get(name)
        return None if tensor is None else np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32)


def read_gguf_config(file: GGUFFile) -> DecoderConfig:
    """Return the decoder's shape.

    Raises:
        ValueError: naming what this workspace does not support.
    """
    name = file.get("general.architecture")
    if name not in ARCHITECTURES:
        raise ValueError(
            f"{file.path.name}: general.architecture={name!r} is not supported; supported: {', '.join(ARCHITECTURES)}"
        )
    scaling = file.get(f"{name}.rope.scaling.type")
    if scaling not in (None, "none"):
        raise ValueError(
            f"{file.path.name}: {name}.rope.scaling.type={scaling!r} is not supported; "
            "use the model's safetensors checkpoint"
        )
    if file.tensor("rope_freqs.weight") is not None:
        raise ValueError(
            f"{file.path.name}: rope_freqs.weight (llama3 rope scaling) is not supported in GGUF form; "
            "use the model's safetensors checkpoint"
        )

    def need(key: str) -> Any:
        value = file.get(f"{name}.{key}")
        if value is None:
            raise ValueError(f"{file.path.name}: {name}.{key} is missing; the file is incomplete, fetch it again")
        return value

    n_heads, hidden = need("attention.head_count"), need("embedding_length")
    head_dim = file.get(f"{name}.attention.key_length", hidden // n_heads)
    rotary = file.get(f"{name}.rope.dimension_count", head_dim)
    if rotary != head_dim:
        raise ValueError(
            f"{file.path.name}: {name}.rope.dimension_count={rotary} differs from the head's {head_dim}; "
            "partial rotary embedding is not supported"
        )
    return DecoderConfig(
        architecture=name,
        vocab_size=len(file.get("tokenizer.ggml.tokens", ())) or need("vocab_size"),
        hidden_size=hidden,
        n_layers=need("block_count"),
        n_heads=n_heads,
        n_kv_heads=need("attention.head_count_kv"),
        head_dim=head_dim,
        ffn_size=need("feed_forward_length"),
        max_positions=need("context_length"),
        # Stored as float32; the shortest decimal that rounds to it is the model's original value.
        rms_norm_eps=float(str(np.float32(need("attention.layer_norm_rms_epsilon")))),
        rope_theta=float(str(np.float32(file.get(f"{name}.rope.freq_base", 10000.0)))),
        tied_head="output.weight" not in file._tensors,
    )


def read_gguf_weights(file: GGUFFile, config: DecoderConfig) -> DecoderWeights[np.ndarray]:
    """Return the tree, float32.

    Raises:
        ValueError: naming a tensor that is missing, misshapen, or not finite.
    """
    c = config
    embed_vd = _need(file, "token_embd.weight")
    layers: dict[str, np.ndarray] = {}
    for leaf, part in GGUF_LEAVES.items():
        blocks = [file.tensor(f"blk.{l}.{part}") for l in range(c.n_layers)]
        if all(block is None for block in blocks):
            continue  # check_weights reports a leaf that should be there
        if (lost := next((l for l, block in enumerate(blocks) if block is None), None)) is not None:
            raise ValueError(f"{file.path.name}: tensor blk.{lost}.{part} is missing; fetch the file again")
        layers[leaf] = np.stack([_as_leaf(c, leaf, block) for block in blocks if block is not None])
    weights = DecoderWeights(
        embed_vd=embed_vd,
        layers=LayerWeights(**layers),
        final_norm_d=_need(file, "output_norm.weight"),
        head_vd=embed_vd if c.tied_head else _need(file, "output.weight"),
    )
    check_weights(config, weights)
    return weights


def _as_leaf(c: DecoderConfig, leaf: str, block: np.ndarray) -> np.ndarray:
    """Return one layer's tensor in our layout, [in..., out...], with rotary pairs as in Hugging Face."""
    n_heads = {"q": c.n_heads, "k": c.n_kv_heads, "v": c.n_kv_heads}
    projection = leaf.split("_")[0]
    if leaf in ("q_ldnh", "k_ldkh", "v_ldkh"):
        if c.architecture == "llama" and projection in "qk":
            block = _undo_rotary_permutation(block, n_heads[projection])
        return block.T.reshape(c.hidden_size, n_heads[projection], c.head_dim)
    if leaf in ("q_bias_lnh", "k_bias_lkh", "v_bias_lkh"):
        return block.reshape(n_heads[projection], c.head_dim)
    if leaf == "o_lnhd":
        return block.T.reshape(c.n_heads, c.head_dim, c.hidden_size)
    return block.T


def _undo_rotary_permutation(rows: np.ndarray, n_heads: int) -> np.ndarray:
    """Undo ggml's converter: from adjacent rotary pairs (2i, 2i+1) back to Hugging Face's (i, i + h/2)."""
    out, inner = rows.shape
    return rows.reshape(n_heads, out // n_heads // 2, 2, inner).swapaxes(1, 2).reshape(out, inner)


def _need(file: GGUFFile, name: str) -> np.ndarray:
    tensor = file.tensor(name)
    if tensor is None:
        raise ValueError(f"{file.path.name}: tensor {name} is missing; fetch the file again")
    return tensor
