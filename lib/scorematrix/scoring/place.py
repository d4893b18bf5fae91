"""Where a live server is, or how it is started, as params say it. Pure: nothing is asked and nothing started."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

PLACEHOLDERS = ("python", "peers", "port", "model", "dtype", "device", "weights")
"""What a launch command may hold in braces. python: ours. peers: the folder of other scorers' environments. weights: a
folder with the model as Hugging Face has it."""
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class ServerPlace:
    """One live server; one of `url` and `launch`.

    Attributes:
        launch: its command, see `PLACEHOLDERS`.
        variables: of its environment, when it is launched.
        served_model: the name it serves the model under; None: the one that it tells.
        keeps_prefix: it keeps queries between calls, and the result is to say so.
        restarts: how often it may be started again after its death, in one round.
    """

    url: str | None = None
    launch: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    served_model: str | None = None
    keeps_prefix: bool = False
    start_seconds: float = 600.0
    restarts: int = 2

    def command(self, values: Mapping[str, str]) -> list[str]:
        """The launch command, split as a shell would, with the placeholders filled in.

        Raises:
            ValueError: for a placeholder that is not known, no command at all, or one without `{port}`.
        """
        launch = str(self.launch)
        try:
            words = shlex.split(launch)
        except ValueError as error:
            raise ValueError(f"launch={launch!r} cannot be split into words: {error}; close its quotes") from None
        if not words:
            raise ValueError("launch='' holds no command; write one, or give url")
        asked = set(_PLACEHOLDER.findall(launch))
        if unknown := sorted(asked - set(PLACEHOLDERS)):
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ValueError(f"launch={launch!r} holds {{{unknown[0]}}}, which is unknown; known: {known}")
        if "port" not in asked:
            raise ValueError(f"launch={launch!r} holds no {{port}}; put it where the server is told its port")
        return [_PLACEHOLDER.sub(lambda found: values[found[1]], word) for word in words]
