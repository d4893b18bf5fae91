"""Layer by layer: the residual stream after every decoder layer equals transformers' hidden states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scorematrix.models import Model
from scorematrix.scoring.rotary import inverse_frequencies
from tests.parity.reference import hf_from_tree


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    return np.random.default_rng(9).integers(0, 256, 48).astype(np.int32)


def hf_hidden(model: Model, tokens: np.ndarray) -> list[np.ndarray]:
    """Hidden state before the first layer and after each; transformers norms the last one already."""
    with torch.inference_mode():
        out = hf_from_tree(model).model(torch.tensor(tokens[None].astype(np.int64)), output_hidden_states=True)
    return [state[0].numpy() for state in out.hidden_states]


def jax_hidden(model: Model, tokens: np.ndarray) -> list[np.ndarray]:
    import jax
    import jax.numpy as jnp

    from scorematrix.scoring.jax import device, portable
    from scorematrix.scoring.jax import model as parts

    weights = device.place_weights(model.weights, "float32", jax.devices("cpu")[0])
    positions, mask = jnp.arange(len(tokens)), portable.attention_mask(jnp.zeros(len(tokens), jnp.int32))
    cos, sin = parts.rotary_tables(positions, inverse_frequencies(model.config))
    states = [parts.embed(model.config, weights.embed_vd, jnp.asarray(tokens))]
    for l in range(model.config.n_layers):
        layer = jax.tree.map(lambda a, l=l: a[l], weights.layers)
        states.append(portable.decoder_layer(model.config, layer, states[-1], cos, sin, mask))
    states[-1] = parts.rms_norm(model.config, states[-1], weights.final_norm_d)
    return [np.asarray(state) for state in states]


def pytorch_hidden(model: Model, tokens: np.ndarray) -> list[np.ndarray]:
    from scorematrix.scoring.pytorch import device, portable
    from scorematrix.scoring.pytorch import model as parts

    weights = device.place_weights(model.weights, "float32", torch.device("cpu"))
    positions, mask = torch.arange(len(tokens)), portable.attention_mask(torch.zeros(len(tokens), dtype=torch.int32))
    cos, sin = parts.rotary_tables(positions, torch.from_numpy(inverse_frequencies(model.config)))
    states = [parts.embed(model.config, weights.embed_vd, torch.from_numpy(tokens).long())]
    for layer in device.layer_slices(weights.layers, model.config.n_layers):
        states.append(portable.decoder_layer(model.config, layer, states[-1], cos, sin, mask))
    states[-1] = parts.rms_norm(model.config, states[-1], weights.final_norm_d)
    return [state.numpy() for state in states]


@pytest.mark.parametrize("ours", [jax_hidden, pytorch_hidden])
def test_every_layer_agrees(ours, tiny: Model, tokens: np.ndarray) -> None:
    expected, found = hf_hidden(tiny, tokens), ours(tiny, tokens)
    assert len(found) == len(expected) == tiny.config.n_layers + 1
    for l, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert np.abs(a - b).max() <= 2e-4, f"after layer {l}"
