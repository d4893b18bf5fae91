"""A Hugging Face model with the same weights as our engines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
import transformers

from scorematrix.models.catalogue import Model
from scorematrix.models.config import DecoderConfig
from scorematrix.models.safetensors_writer import hf_config_fields, hf_tensors
from scorematrix.models.weights import DecoderWeights
from scorematrix.scoring.contract import AskedDType, BackendInfo, CompileEvent, Scores
from scorematrix.scoring.pytorch.device import choose_device, choose_dtype, compute_dtype, to_tensor
from scorematrix.workload.request import ScoreRequest


class TransformersBackend(ABC):
    """The base of all views of backend `transformers`. A view computes the items' last hidden states."""

    view: ClassVar[str]

    def __init__(self, model: Model, *, device: str = "auto", dtype: AskedDType = "auto") -> None:
        self.device = choose_device(device)
        dtype, _ = choose_dtype(dtype, self.device)
        net = build_model(model.config, model.weights)
        # transformers' wrapper of this method loses `self` in its hints.
        self.net = net.to(self.device, compute_dtype(dtype))  # pyright: ignore[reportArgumentType]
        self.info = BackendInfo(
            backend="transformers",
            view=self.view,
            framework="pytorch",
            device="cpu" if self.device.type == "cpu" else torch.cuda.get_device_name(self.device),
            dtype=dtype,
            precision=f"{dtype} products, float32 head and softmax",
            settings={
                "attention": "sdpa",
                "transformers": transformers.__version__,
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "model": model.name,
            },
        )
        self.compile_events: list[CompileEvent] = []

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:  # noqa: B027 (empty on purpose)
        pass  # Eager execution compiles no programs.

    @torch.inference_mode()
    def score(self, request: ScoreRequest) -> Scores:
        request.check_vocabulary(self.net.config.vocab_size)
        logits_sv = self.last_hidden_sd(request).float() @ self.net.lm_head.weight.float().T
        labels = torch.tensor(request.label_ids, device=self.device)
        if request.apply_softmax:
            return torch.softmax(logits_sv[:, labels], dim=-1).cpu().numpy()
        return torch.softmax(logits_sv, dim=-1)[:, labels].cpu().numpy()

    @abstractmethod
    def last_hidden_sd(self, request: ScoreRequest) -> torch.Tensor:
        """Return the decoder's final hidden state [items, hidden] at each item's last token."""


def build_model(config: DecoderConfig, weights: DecoderWeights[np.ndarray]) -> transformers.PreTrainedModel:
    """Build the float32 transformers model of a config with the tree's weights, in eval mode."""
    with torch.device("meta"):
        net = _model_class(config)(hf_config(config))
    missing, surplus = net.load_state_dict(state_dict(config, weights), assign=True, strict=False)
    if surplus or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"transformers {transformers.__version__} names weights differently: {missing} {surplus}")
    if config.tied_head:
        net.tie_weights()
    # Rotary and scaling buffers are not weights: on the meta device above they got no values, so create them again.
    net.model.rotary_emb = type(net.model.rotary_emb)(net.config)
    if config.family.scaled_embedding:
        net.model.embed_tokens.embed_scale = torch.tensor(config.embedding_scale)
    if empty := [name for name, buffer in net.named_buffers() if buffer.is_meta]:
        raise ValueError(f"transformers {transformers.__version__} has buffers without values: {empty}")
    return net.eval()


def hf_config(config: DecoderConfig) -> transformers.PretrainedConfig:
    """Return the same shape and constants as a transformers config."""
    made = _model_class(config).config_class
    assert made is not None  # only the abstract base class has none
    return made(**{**hf_config_fields(config), "attn_implementation": "sdpa"})


def state_dict(config: DecoderConfig, weights: DecoderWeights[np.ndarray]) -> dict[str, torch.Tensor]:
    """Return the tree under transformers' names, in float32."""
    named = hf_tensors(config, weights)
    return {name: to_tensor(array).float().contiguous() for name, array in named.items()}


def _model_class(config: DecoderConfig) -> type[transformers.PreTrainedModel]:
    return getattr(transformers, config.family.hf_class)
