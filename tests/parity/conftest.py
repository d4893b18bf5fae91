"""Every in-process backend, loaded once a model: compiled anew for each test it would be most of the tests' time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from scorematrix import load_backend
from scorematrix.models import Model
from scorematrix.scoring import BACKENDS, Backend

ENGINES = [
    (name, view) for name, entry in BACKENDS.items() if not (entry.environment or entry.is_live) for view in entry.views
]


@pytest.fixture(params=ENGINES, ids="-".join)
def engine(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture(autouse=True)
def untraced(request: pytest.FixtureRequest) -> Iterator[None]:
    """PyTorch's graphs are not even traced but where inductor compiles them: scores are the same."""
    if "inductor" in request.fixturenames:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.fixture(scope="package")
def load() -> Iterator[Callable[..., Backend]]:
    """From (engine, model) to its backend on the CPU in float32, the same for every test that asks."""
    loaded: dict[tuple[str, str, int], tuple[Model, Backend]] = {}

    def load(engine: tuple[str, str], model: Model) -> Backend:
        key = (*engine, id(model))
        if key not in loaded:
            backend = load_backend(engine[0], view=engine[1], model=model, device="cpu", dtype="float32")
            loaded[key] = (model, backend)  # the model is kept, so that its id stays its own
        return loaded[key][1]

    yield load
    loaded.clear()
