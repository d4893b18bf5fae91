"""The loop of every worker: read a JSON line, answer with a JSON line, until the input ends.

It runs in a peer's environment, where scorematrix is not installed, so it imports the standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

Scorer = TypeVar("Scorer")


def serve(load: Callable[[dict], tuple[Scorer, dict]], score: Callable[[Scorer, dict], list]) -> None:
    """Answer `{"load": ...}` once and `{"score": ...}` many times.

    Args:
        load: maps options to the scorer and its description.
        score: maps the scorer and a request to probabilities [item][label].
    """
    # Libraries may print to standard output at any time, so answers use a separate descriptor.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    scorer: Scorer | None = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            if "load" in message:
                scorer, info = load(message["load"])
                answer = {"info": info}
            else:
                assert scorer is not None, "nothing is loaded"
                answer = {"scores": score(scorer, message["score"])}
        except Exception as error:  # the parent must receive every error
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
