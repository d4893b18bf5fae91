"""Models: their source, shape, and weights as one framework-neutral tree. Imports no framework."""

from scorematrix.models.cache import ModelUnavailable, cache_folder
from scorematrix.models.catalogue import Model, fetch, list_models, load_model, locate, read_description
from scorematrix.models.random_weights import random_weights
from scorematrix.models.weights import check_weights

__all__ = [
    "Model",
    "ModelUnavailable",
    "cache_folder",
    "check_weights",
    "fetch",
    "list_models",
    "load_model",
    "locate",
    "random_weights",
    "read_description",
]
