"""Where a live server is, or how to launch it, from the params. Pure: sends nothing and starts nothing."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PLACEHOLDERS = ("python", "peers", "port", "model", "dtype", "device", "weights")
"""Placeholders of a launch command, in braces. python: our interpreter. peers: the folder of other scorers'
environments. weights: a folder with the model in Hugging Face format."""
_REFERENCE = re.compile(r"\$\{(\w+)\}")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class ServerPlace(BaseModel):
    """One live server; set either `url` or `launch`. A user name and password in `url` are given as `${NAME}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    url: Annotated[str, Field(pattern=r"^https?://[^/\s]+/?$")] | None = Field(None, description="http://HOST:PORT")
    launch: str | None = Field(None, description="command that starts it; {port} and the like are filled in")
    variables: dict[str, str] = Field({}, description="environment variables of a launched server")
    served_model: str | None = Field(None, description="the model's name on the server; by default the one it reports")
    keeps_prefix: bool = Field(False, description="whether it caches queries between calls; the result says so")
    beside_others: bool | None = Field(
        None, description="whether it may be alive beside the others of its target; by default on a CPU only"
    )
    start_seconds: Annotated[float, Field(gt=0)] = 600.0
    restarts: Annotated[int, Field(ge=0, le=9)] = 2

    @property
    def address(self) -> str:
        """Return `url` with each `${NAME}` replaced by that environment variable; only for connecting, never recorded.

        Raises:
            ValueError: for a variable that is not set.
        """

        def value(match: re.Match[str]) -> str:
            if (found := os.environ.get(match[1])) is None:
                raise ValueError(f"url={self.url!r} names the environment variable {match[1]}; export it")
            return found

        return _REFERENCE.sub(value, str(self.url))

    def command(self, values: Mapping[str, str]) -> list[str]:
        """Return the launch command, split as a shell would, with the placeholders filled in.

        Raises:
            ValueError: for an unknown placeholder, an empty command, or one without `{port}`.
        """
        launch = str(self.launch)
        try:
            arguments = shlex.split(launch)
        except ValueError as error:
            raise ValueError(f"launch={launch!r} cannot be split: {error}; close its quotes") from None
        if not arguments:
            raise ValueError("launch='' is empty; give a command, or give url")
        used = set(_PLACEHOLDER.findall(launch))
        if unknown := sorted(used - set(PLACEHOLDERS)):
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ValueError(f"launch={launch!r} contains {{{unknown[0]}}}, which is unknown; known: {known}")
        if "port" not in used:
            raise ValueError(f"launch={launch!r} lacks {{port}}; put it where the server's command takes the port")
        return [_PLACEHOLDER.sub(lambda match: values[match[1]], argument) for argument in arguments]
