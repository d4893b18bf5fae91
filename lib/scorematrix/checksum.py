"""Documents that carry the SHA-256 of their content, so that an edited file is detected."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator


def content_sha256(content: Any) -> str:
    """Return the SHA-256 of plain data in a canonical JSON form."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class SealedDocument(BaseModel):
    """A frozen document. An empty `sha256` is filled in; any other must match the content."""

    # Not-a-number and infinity are written as strings, so that files stay plain JSON.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    sha256: str = ""

    @model_validator(mode="after")
    def _seal(self) -> Self:
        digest = self._digest(exclude_unset=False)
        if not self.sha256:
            object.__setattr__(self, "sha256", digest)
        elif self.sha256 not in (digest, older := self._digest(exclude_unset=True)):
            raise ValueError(
                f"sha256={self.sha256[:12]}... does not match the content, which hashes to {older[:12]}...; "
                "the file was edited or damaged after it was written"
            )
        return self

    def _digest(self, *, exclude_unset: bool) -> str:
        """Return the seal. `exclude_unset` leaves out fields that an older file lacks, so that its seal stays valid."""
        return content_sha256(self.model_dump(mode="json", exclude={"sha256"}, exclude_unset=exclude_unset))
