"""Write the weight tree as a Hugging Face folder, for scorers that read nothing else."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np

from scorematrix.models.config import DecoderConfig
from scorematrix.models.safetensors_reader import CONFIG_KEYS, GELU, HF_LEAVES, HF_TOP_LEAVES
from scorematrix.models.weights import DecoderWeights


def write_hf_folder(
    folder: Path, config: DecoderConfig, weights: DecoderWeights[np.ndarray], dtype: str, tokenizer: str | None = None
) -> None:
    """Write config.json and model.safetensors. If several processes write a folder at once, the first one's stays.

    Args:
        folder: new or empty; its parent exists.
        dtype: float32 or bfloat16.
        tokenizer: content of tokenizer.json, for servers that need one to start; the model is scored by ids.
    """
    from safetensors.numpy import save_file

    kind = np.float32 if dtype == "float32" else ml_dtypes.bfloat16
    names = {
        "architectures": [config.family.hf_class],
        "model_type": config.architecture,
        "dtype": dtype,
    }
    tensors = {name: np.ascontiguousarray(array, kind) for name, array in hf_tensors(config, weights).items()}
    with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as making:
        save_file(tensors, Path(making) / "model.safetensors")
        (Path(making) / "config.json").write_text(json.dumps(names | hf_config_fields(config), indent=1), "utf-8")
        if tokenizer is not None:
            (Path(making) / "tokenizer.json").write_text(tokenizer, "utf-8")
            settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
            (Path(making) / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
        try:
            os.replace(making, folder)
        except OSError:
            if not (folder / "config.json").is_file():  # else another process, which writes the same, was faster
                raise


def hf_tensors(config: DecoderConfig, weights: DecoderWeights[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tree in Hugging Face's names and layout, as views where no copy is needed."""
    top = dict(weights.named_leaves())
    tensors = {name: top[leaf] for leaf, name in HF_TOP_LEAVES.items() if leaf in top}
    for leaf, part in HF_LEAVES.items():
        if (stacked := getattr(weights.layers, leaf)) is not None:
            for l in range(config.n_layers):
                tensors[f"model.layers.{l}.{part}"] = _as_linear(config, leaf, stacked[l])
    return tensors


def hf_config_fields(config: DecoderConfig) -> dict[str, object]:
    """Return shape and constants as fields of config.json."""
    c = config
    rope: dict[str, object] = {"rope_type": "default", "rope_theta": c.rope_theta}
    if c.rope_scaling is not None:
        rope |= {
            "rope_type": "llama3",
            "factor": c.rope_scaling.factor,
            "low_freq_factor": c.rope_scaling.low_freq_factor,
            "high_freq_factor": c.rope_scaling.high_freq_factor,
            "original_max_position_embeddings": c.rope_scaling.original_max_positions,
        }
    return {
        **{key: getattr(c, field) for field, key in CONFIG_KEYS.items()},
        "rope_parameters": rope,
        "hidden_act": GELU if c.family.gelu else "silu",
        "tie_word_embeddings": c.tied_head,
    }


def _as_linear(c: DecoderConfig, leaf: str, array: np.ndarray) -> np.ndarray:
    """Return one layer's leaf in the layout of a torch linear: [out, in]."""
    if leaf in ("q_ldnh", "k_ldkh", "v_ldkh"):
        return array.reshape(c.hidden_size, -1).T
    if leaf == "o_lnhd":
        return array.reshape(-1, c.hidden_size).T
    return array.reshape(-1) if leaf.endswith(("bias_lnh", "bias_lkh")) else array.T
