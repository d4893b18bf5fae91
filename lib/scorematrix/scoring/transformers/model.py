"""A Hugging Face model that holds the same weights as our engines."""

from __future__ import annotations

import torch
import transformers

from scorematrix.models.catalogue import Model
from scorematrix.models.config import DecoderConfig
from scorematrix.models.weights import DecoderWeights
from scorematrix.scoring.contract import BackendInfo
from scorematrix.scoring.pytorch.device import choose_device, choose_dtype, compute_dtype, to_tensor
from scorematrix.workload.request import ScoreRequest


class TransformersModel:
    """What both baseline views share: the model on its device, its record, the read-out of label probabilities."""

    def __init__(self, model: Model, view: str, device: str, dtype: str) -> None:
        self.device = choose_device(device)
        dtype, _ = choose_dtype(dtype, self.device)
        self.config = model.config
        self.net = build_model(model.config, model.weights).to(self.device, compute_dtype(dtype))
        self.info = BackendInfo(
            backend="transformers",
            view=view,
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

    def label_probabilities(self, hidden_sd: torch.Tensor, request: ScoreRequest) -> torch.Tensor:
        """Float32 [items, labels] from the final hidden states at the items' last tokens."""
        logits_sv = hidden_sd.float() @ self.net.lm_head.weight.float().T
        labels = torch.tensor(request.label_ids, device=self.device)
        if request.apply_softmax:
            return torch.softmax(logits_sv[:, labels], dim=-1)
        return torch.softmax(logits_sv, dim=-1)[:, labels]


def build_model(config: DecoderConfig, weights: DecoderWeights) -> transformers.PreTrainedModel:
    """The float32 transformers model of a config, filled with the tree's weights, in eval mode."""
    with torch.device("meta"):
        net = _model_class(config)(hf_config(config))
    missing, surplus = net.load_state_dict(state_dict(config, weights), assign=True, strict=False)
    if surplus or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"transformers {transformers.__version__} names weights differently: {missing} {surplus}")
    if config.tied_head:
        net.tie_weights()
    # Rotary buffers are no weights: made on the meta device above, they are made again with values here.
    net.model.rotary_emb = type(net.model.rotary_emb)(net.config)
    return net.eval()


def hf_config(config: DecoderConfig) -> transformers.PretrainedConfig:
    """The same shape and constants in transformers' words."""
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    if (scaling := config.rope_scaling) is not None:
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_positions,
        }
    return _model_class(config).config_class(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.ffn_size,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_kv_heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.max_positions,
        rms_norm_eps=config.rms_norm_eps,
        rope_parameters=rope,
        tie_word_embeddings=config.tied_head,
        attn_implementation="sdpa",
    )


def state_dict(config: DecoderConfig, weights: DecoderWeights) -> dict[str, torch.Tensor]:
    """The tree under transformers' names; its linear weights are [out, in]."""
    named = {
        "model.embed_tokens.weight": to_tensor(weights.embed_vd).float(),
        "model.norm.weight": to_tensor(weights.final_norm_d).float(),
    }
    if not config.tied_head:
        named["lm_head.weight"] = to_tensor(weights.head_vd).float()
    matrices = {
        "q_ldnh": "self_attn.q_proj",
        "k_ldkh": "self_attn.k_proj",
        "v_ldkh": "self_attn.v_proj",
        "gate_ldf": "mlp.gate_proj",
        "up_ldf": "mlp.up_proj",
        "down_lfd": "mlp.down_proj",
    }
    vectors = {
        "attn_norm_ld": "input_layernorm.weight",
        "mlp_norm_ld": "post_attention_layernorm.weight",
        "q_bias_lnh": "self_attn.q_proj.bias",
        "k_bias_lkh": "self_attn.k_proj.bias",
        "v_bias_lkh": "self_attn.v_proj.bias",
        "q_norm_lh": "self_attn.q_norm.weight",
        "k_norm_lh": "self_attn.k_norm.weight",
    }
    for l in range(config.n_layers):
        prefix = f"model.layers.{l}."
        for leaf, name in matrices.items():
            matrix = to_tensor(getattr(weights.layers, leaf)[l]).float()
            named[f"{prefix}{name}.weight"] = matrix.flatten(1).T.contiguous()
        out = to_tensor(weights.layers.o_lnhd[l]).float()
        named[f"{prefix}self_attn.o_proj.weight"] = out.flatten(0, 1).T.contiguous()
        for leaf, name in vectors.items():
            if (stacked := getattr(weights.layers, leaf)) is not None:
                named[f"{prefix}{name}"] = to_tensor(stacked[l]).float().flatten()
    return named


def _model_class(config: DecoderConfig) -> type[transformers.PreTrainedModel]:
    return {
        "llama": transformers.LlamaForCausalLM,
        "qwen2": transformers.Qwen2ForCausalLM,
        "qwen3": transformers.Qwen3ForCausalLM,
    }[config.architecture]
