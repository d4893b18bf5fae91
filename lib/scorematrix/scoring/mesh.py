"""The device mesh of an engine; `scoring.sharding` defines what each device gets. Imports almost nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Mesh:
    """`data` replicas of the model, each split over `model` devices."""

    data: int = 1
    model: int = 1

    @property
    def size(self) -> int:
        """Devices in all."""
        return self.data * self.model

    def __str__(self) -> str:
        return f"data={self.data},model={self.model}"

    @classmethod
    def parse(cls, text: str | Mesh) -> Mesh:
        """Read `data=2,model=4`; an axis that is not named is 1.

        Raises:
            ValueError: for any other text.
        """
        if isinstance(text, Mesh):
            return text
        parts = [re.fullmatch(r"(data|model)=([1-9]\d*)", part.strip()) for part in str(text).split(",")]
        axes = {part[1]: int(part[2]) for part in parts if part}
        if len(axes) != len(parts):
            raise ValueError(f"mesh={text!r} must name its axes, each once and at least 1, for example data=2,model=4")
        return cls(**axes)
