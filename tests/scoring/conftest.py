"""What tests of the engines share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """PyTorch's graphs run as they are written: for tests of what does not depend on compiling, which takes minutes."""
    with torch.compiler.set_stance("force_eager"):
        yield
