"""Our trees against transformers' own reading of the same files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from scorematrix.models import Model, check_weights, load_model, random_weights
from scorematrix.models.config import ARCHITECTURES, RopeScaling
from scorematrix.models.gguf_reader import GGUFFile, read_gguf_config
from scorematrix.models.random_weights import RANDOM_SHAPES
from scorematrix.models.safetensors_reader import read_hf_config, read_hf_weights
from scorematrix.scoring.transformers.model import hf_config, state_dict
from tests.parity.reference import hf_smollm2

TINY = [f"tiny-{name}" for name in ARCHITECTURES]


def test_embedded_tree_equals_transformers(smollm2: Model) -> None:
    """Every leaf, bit by bit; the rotary permutation of q and k is undone rightly or this fails."""
    theirs = hf_smollm2().state_dict()
    ours = state_dict(smollm2.config, smollm2.weights)
    assert ours.keys() == theirs.keys() - {"lm_head.weight"}
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    assert torch.equal(ours["model.embed_tokens.weight"], theirs["lm_head.weight"])


def test_embedded_config(smollm2: Model) -> None:
    c = smollm2.config
    assert (c.n_layers, c.n_heads, c.n_kv_heads, c.head_dim, c.hidden_size) == (30, 9, 3, 64, 576)
    assert (c.rope_theta, c.rms_norm_eps, c.tied_head, c.n_params) == (100000.0, 1e-5, True, 134_515_008)


def save_checkpoint(
    folder: Path, shape: str, dtype: torch.dtype, tied: bool, shard: str
) -> transformers.PreTrainedModel:
    config = hf_config(RANDOM_SHAPES[shape])
    config.tie_word_embeddings = tied
    torch.manual_seed(0)
    net = transformers.AutoModelForCausalLM.from_config(config).to(dtype)
    for name, parameter in net.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(parameter, 1.0, 0.1)
    net.save_pretrained(folder, max_shard_size=shard)
    return net


@pytest.mark.parametrize("shape", TINY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize(("tied", "shard"), [(True, "10GB"), (False, "100KB")], ids=["tied-single", "untied-sharded"])
def test_checkpoints_read_back(tmp_path: Path, shape: str, dtype: torch.dtype, tied: bool, shard: str) -> None:
    net = save_checkpoint(tmp_path, shape, dtype, tied, shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "100KB")
    model = load_model(str(tmp_path))
    assert model.config.tied_head == tied and model.tokenizer is None
    assert model.weights.embed_vd.dtype.name == str(dtype).removeprefix("torch.")
    theirs = net.state_dict()
    for name, tensor in state_dict(model.config, model.weights).items():
        assert torch.equal(tensor, theirs[name].float()), name
    assert model.config.rope_scaling == RANDOM_SHAPES[shape].rope_scaling
    assert (model.config.head_dim, model.config.rope_theta) == (RANDOM_SHAPES[shape].head_dim, 1e4)


def test_llama3_rope_in_the_old_place(tmp_path: Path) -> None:
    raw = {
        "architectures": ["LlamaForCausalLM"], "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 4, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                            "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(raw))
    config = read_hf_config(tmp_path)
    assert config.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 32) and config.rope_theta == 5e5
    assert (config.n_kv_heads, config.head_dim, config.tied_head) == (2, 4, False)


REFUSED = {
    "architecture": ({"architectures": ["GPT2LMHeadModel"]}, "architectures='GPT2LMHeadModel'"),
    "remote code": ({"architectures": ["My"], "auto_map": {"AutoModel": "x.py"}}, "architectures='My'"),
    "quantized": ({"quantization_config": {"bits": 4}}, "quantization_config"),
    "sliding window": ({"use_sliding_window": True}, "use_sliding_window=True"),
    "layer types": ({"layer_types": ["sliding_attention"]}, "layer_types"),
    "attention bias": ({"attention_bias": True}, "attention_bias=True"),
    "mlp bias": ({"mlp_bias": True}, "mlp_bias=True"),
    "activation": ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
    "rope type": ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type='yarn'"),
    "partial rotary": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
    "missing": ({"hidden_size": None}, "hidden_size"),
    "odd groups": ({"num_key_value_heads": 3}, "n_heads=4 .*n_kv_heads=3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unsupported_configs_are_refused_by_name(tmp_path: Path, case: str) -> None:
    change, words = REFUSED[case]
    raw = hf_config(RANDOM_SHAPES["tiny-llama"]).to_dict() | {"architectures": ["LlamaForCausalLM"]} | change
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=words):
        read_hf_config(tmp_path)


@pytest.mark.parametrize(("said", "refused"), [
    ({"hidden_act": "gelu"}, None), ({"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"}, None),
    ({"hidden_act": None}, None), ({"hidden_act": "silu"}, "hidden_act"),
    ({"hidden_activation": "gelu"}, "hidden_activation"),
    ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
])  # fmt: skip
def test_gemmas_own_words_for_its_activation(tmp_path: Path, said: dict, refused: str | None) -> None:
    """Older files say gelu where they mean the tanh form, and no file says that the head is tied."""
    shape = dataclasses.replace(RANDOM_SHAPES["tiny-gemma"], tied_head=True)
    untold = {"architectures": ["GemmaForCausalLM"], "tie_word_embeddings": None}
    raw = hf_config(shape).to_dict() | untold | said
    (tmp_path / "config.json").write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))
    if refused:
        with pytest.raises(ValueError, match=refused):
            read_hf_config(tmp_path)
    else:
        assert read_hf_config(tmp_path) == shape


def test_gguf_of_gemma_is_refused(tmp_path: Path) -> None:
    """llama.cpp's files store its norms with the offset added."""
    import gguf

    writer = gguf.GGUFWriter(str(tmp_path / "g.gguf"), "gemma")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match="general.architecture='gemma'"):
        read_gguf_config(GGUFFile(tmp_path / "g.gguf"))


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "tiny-llama", torch.float32, False, "10GB")
    config = read_hf_config(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="model.safetensors"):
        read_hf_weights(tmp_path, config)
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pytorch_model.bin"):
        read_hf_weights(tmp_path, config)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../evil.safetensors"}}))
    with pytest.raises(ValueError, match="evil.safetensors|outside"):
        read_hf_weights(tmp_path, config)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    config = RANDOM_SHAPES["tiny-qwen3"]
    weights = random_weights(config, 0)
    weights.layers.up_ldf[1, 2, 3] = value
    with pytest.raises(ValueError, match=r"layers\.up_ldf"):
        check_weights(config, weights)


def test_gguf_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF but not really" * 10)
    with pytest.raises(ValueError, match="x.gguf"):
        read_gguf_config(GGUFFile(path))


@pytest.mark.parametrize("shape", TINY)
def test_random_weights_are_seeded(shape: str) -> None:
    config = RANDOM_SHAPES[shape]
    one = random_weights(config, 1)
    assert one.sha256 == random_weights(config, 1).sha256 != random_weights(config, 2).sha256
    check_weights(config, one)


@pytest.mark.parametrize(
    ("name", "words"),
    [("smollm2", "'smollm2-135m'"), ("random:qwen3-0.6", "'random:qwen3-0.6b'"),
     ("./nowhere", "./nowhere"), ("x.gguf", "x.gguf")],
)  # fmt: skip
def test_unknown_models_are_refused(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_model(name)
