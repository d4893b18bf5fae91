"""Read weights and config from a GGUF file with the gguf package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scorematrix.models.config import ARCHITECTURES, DecoderConfig
from scorematrix.models.safetensors_reader import weights_of
from scorematrix.models.weights import DecoderWeights

QUERY_KEY = ("q_proj.weight", "k_proj.weight")
"""Ends of the names of Hugging Face's tensors whose rows ggml permutes in a llama."""


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

    def has(self, name: str) -> bool:
        """Return whether there is a tensor of this name."""
        return name in self._tensors

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
    supported = [name for name, family in ARCHITECTURES.items() if family.in_gguf]
    if name not in supported:
        raise ValueError(
            f"{file.path.name}: general.architecture={name!r} is not supported; supported: {', '.join(supported)}"
        )
    scaling = file.get(f"{name}.rope.scaling.type")
    if scaling not in (None, "none"):
        raise ValueError(
            f"{file.path.name}: {name}.rope.scaling.type={scaling!r} is not supported; "
            "use the model's safetensors checkpoint"
        )
    if file.has("rope_freqs.weight"):
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
        tied_head=not file.has("output.weight"),
    )


def read_gguf_weights(file: GGUFFile, config: DecoderConfig) -> DecoderWeights[np.ndarray]:
    """Return the tree, float32.

    Raises:
        ValueError: naming a tensor that is missing, misshapen, or not finite.
    """
    name_of = gguf_names(config)

    def read(hf_name: str) -> np.ndarray:
        tensor = file.tensor(name_of(hf_name))
        if tensor is None:
            raise ValueError(f"{file.path.name}: tensor {name_of(hf_name)} is missing; fetch the file again")
        if config.architecture == "llama" and hf_name.endswith(QUERY_KEY):
            return swap_rotary(tensor, (config.head_dim // 2, 2))
        return tensor

    return weights_of(config, lambda hf_name: file.has(name_of(hf_name)), read)


def gguf_names(config: DecoderConfig) -> Callable[[str], str]:
    """Return a function from a tensor's Hugging Face name to its GGUF name; empty for one that GGUF does not know."""
    import gguf

    architecture = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == config.architecture)
    names = gguf.get_tensor_name_map(architecture, config.n_layers)
    return lambda hf_name: names.get_name(hf_name, (".weight", ".bias")) or ""


def swap_rotary(rows: np.ndarray, pairs: tuple[int, int]) -> np.ndarray:
    """Reorder the rows of every head, which are `pairs` of rotary values.

    (h/2, 2) leads from ggml's adjacent pairs (2i, 2i+1) to Hugging Face's (i, i + h/2), and (2, h/2) back.
    """
    return rows.reshape(-1, *pairs, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)
