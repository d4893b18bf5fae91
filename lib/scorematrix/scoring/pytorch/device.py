"""Choose the PyTorch device and number format that a backend runs on, and move the weights there."""

from __future__ import annotations

import operator

import ml_dtypes
import numpy as np
import torch

from scorematrix.models.catalogue import Model
from scorematrix.models.weights import DecoderWeights, LayerWeights
from scorematrix.scoring.contract import AskedDType, BackendInfo, DType
from scorematrix.scoring.precision import auto_dtype
from scorematrix.scoring.shared_prefix import CPU_STEP_BYTES


def choose_device(device: str) -> torch.device:
    """Return this process's device of a kind; "auto" is CUDA where PyTorch sees one, else the CPU.

    Raises:
        ValueError: naming the kind and why PyTorch cannot use it.
    """
    if device == "auto":
        device = "gpu" if torch.cuda.is_available() else "cpu"
    if device == "gpu" and not torch.cuda.is_available():
        raise ValueError(f"device='gpu': PyTorch {torch.__version__} sees no CUDA device; use device='cpu'")
    if device not in ("cpu", "gpu"):
        raise ValueError(f"device={device!r} cannot be used by PyTorch here; choose auto, cpu or gpu")
    return torch.device("cuda", torch.cuda.current_device()) if device == "gpu" else torch.device("cpu")


def choose_dtype(dtype: AskedDType, device: torch.device) -> tuple[DType, str]:
    """Return the number format of weights and activations, and why it was chosen."""
    return auto_dtype("cpu" if device.type == "cpu" else "gpu") if dtype == "auto" else (dtype, "asked for")


def place_weights(
    weights: DecoderWeights[np.ndarray], dtype: DType, device: torch.device
) -> DecoderWeights[torch.Tensor]:
    """Move the weights to the device in one number format. A tied head stays one tensor."""
    placed = {id(a): to_tensor(a).to(device, compute_dtype(dtype)) for _, a in weights.named_leaves()}
    return DecoderWeights(
        embed_vd=placed[id(weights.embed_vd)],
        layers=weights.layers.mapped(lambda a: placed[id(a)]),
        final_norm_d=placed[id(weights.final_norm_d)],
        head_vd=placed[id(weights.head_vd)],
    )


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """Return a CPU tensor with the array's values. bfloat16 passes as bits, because numpy has no such type."""
    array = np.array(array)  # a fresh, writable copy: the source may be a read-only file mapping
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def layer_slices(layers: LayerWeights[torch.Tensor], n_layers: int) -> list[LayerWeights[torch.Tensor]]:
    """Return one view of the stacked weights per layer. Its leaves lack the l axis of their names."""
    return [layers.mapped(operator.itemgetter(l)) for l in range(n_layers)]


def step_budget_bytes(device: torch.device) -> int:
    """Return one step's working memory: 0.5 GiB on a CPU, a tenth of an accelerator's. All processes get the same."""
    if device.type == "cpu":
        return CPU_STEP_BYTES
    return torch.cuda.get_device_properties(device).total_memory // 10


def describe(model: Model, view: str, device: torch.device, dtype: DType, **settings: str | int | bool) -> BackendInfo:
    """Describe what was loaded, for the record."""
    precision = {
        "float32": "float32 products (TF32 off), float32 sums",
        "bfloat16": "bfloat16 products, float32 sums; attention scores, softmax and head float32",
    }[dtype]
    return BackendInfo(
        backend="pytorch",
        view=view,
        framework="pytorch",
        device="cpu" if device.type == "cpu" else torch.cuda.get_device_name(device),
        dtype=dtype,
        precision=precision,
        settings={
            "inference_mode": True,
            "compile": False,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "model": model.name,
            **settings,
        },
    )


def compute_dtype(dtype: str) -> torch.dtype:
    """Return the torch dtype of activations."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
