"""What every worker does: read a JSON line, answer with a JSON line, until the input ends.

Runs in a peer's own environment, where scorematrix is not installed: it imports the standard library only.
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
        load: from options to the scorer and what it says of itself.
        score: from the scorer and a request to probabilities [item][label].
    """
    # Libraries print to standard output whenever they like: the answers get a descriptor of their own.
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
        except Exception as error:  # whatever it is, the parent must hear of it
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
