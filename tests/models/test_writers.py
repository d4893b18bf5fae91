"""What is written for other scorers is the very tree that our engines hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from scorematrix.models import Model
from scorematrix.models.config import ARCHITECTURES
from scorematrix.models.gguf_reader import GGUFFile, read_gguf_config, read_gguf_weights
from scorematrix.models.gguf_writer import write_gguf
from scorematrix.models.safetensors_reader import read_hf_config, read_hf_weights
from scorematrix.models.safetensors_writer import write_hf_folder
from scorematrix.models.weights import DecoderWeights
from tests.parity.reference import hf_from_tree


def assert_same(ours: DecoderWeights, read: DecoderWeights, relative: float) -> None:
    for (name, a), (other, b) in zip(ours.named_leaves(), read.named_leaves(), strict=True):
        assert name == other
        np.testing.assert_allclose(b.astype(np.float32), a.astype(np.float32), rtol=relative, err_msg=name)


@pytest.mark.parametrize(("dtype", "relative"), [("float32", 0.0), ("bfloat16", 2**-8)])
def test_gguf_reads_back(tmp_path: Path, tiny: Model, dtype: str, relative: float) -> None:
    if tiny.config.rope_scaling is not None or not tiny.config.family.in_gguf:
        with pytest.raises(ValueError, match="rope_scaling=|architecture="):
            write_gguf(tmp_path / "model.gguf", tiny.config, tiny.weights, dtype)
        assert not list(tmp_path.iterdir())
        return
    write_gguf(tmp_path / "model.gguf", tiny.config, tiny.weights, dtype)
    file = GGUFFile(tmp_path / "model.gguf")
    assert read_gguf_config(file) == tiny.config
    assert_same(tiny.weights, read_gguf_weights(file, tiny.config), relative)


def test_gguf_permutes_llama_as_the_reader_undoes_it(tmp_path: Path, smollm2: Model) -> None:
    write_gguf(tmp_path / "model.gguf", smollm2.config, smollm2.weights, "float32")
    read = read_gguf_weights(GGUFFile(tmp_path / "model.gguf"), smollm2.config)
    assert read.sha256 == smollm2.weights.sha256


@pytest.mark.parametrize(("dtype", "relative"), [("float32", 0.0), ("bfloat16", 2**-8)])
def test_hf_folder_reads_back(tmp_path: Path, tiny: Model, dtype: str, relative: float) -> None:
    write_hf_folder(tmp_path, tiny.config, tiny.weights, dtype)
    assert read_hf_config(tmp_path) == tiny.config
    assert_same(tiny.weights, read_hf_weights(tmp_path, tiny.config), relative)


def test_a_process_that_writes_the_same_folder_later_does_not_fail(tmp_path: Path, tiny: Model) -> None:
    """Two vLLM rounds of a group start at once, and both find no weights for it."""
    for _ in range(2):
        write_hf_folder(tmp_path / "weights", tiny.config, tiny.weights, "float32")
    assert read_hf_config(tmp_path / "weights") == tiny.config
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_a_corrected_architecture_is_cached_elsewhere(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    before, family = tiny.key, tiny.config.family
    monkeypatch.setitem(ARCHITECTURES, tiny.config.architecture, replace(family, gelu=not family.gelu))
    assert tiny.key != before


def test_transformers_reads_the_hf_folder(tmp_path: Path, tiny: Model) -> None:
    write_hf_folder(tmp_path, tiny.config, tiny.weights, "float32")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    tokens = torch.arange(40)[None]
    with torch.inference_mode():
        assert torch.equal(theirs(tokens).logits, hf_from_tree(tiny)(tokens).logits)
