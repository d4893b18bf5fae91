"""Models: their source, shape, and weights as one framework-neutral tree. Imports no framework."""

from scorematrix.models.cache import ModelUnavailable, cache_folder
from scorematrix.models.catalogue import (
    CatalogueEntry,
    Model,
    ModelDescription,
    fetch,
    list_models,
    load_model,
    locate,
    read_description,
)
from scorematrix.models.config import DecoderConfig, RopeScaling
from scorematrix.models.random_weights import RANDOM_SHAPES, random_weights
from scorematrix.models.weights import DecoderWeights, LayerWeights, check_weights

__all__ = [
    "RANDOM_SHAPES",
    "CatalogueEntry",
    "DecoderConfig",
    "DecoderWeights",
    "LayerWeights",
    "Model",
    "ModelDescription",
    "ModelUnavailable",
    "RopeScaling",
    "cache_folder",
    "check_weights",
    "fetch",
    "list_models",
    "load_model",
    "locate",
    "random_weights",
    "read_description",
]
