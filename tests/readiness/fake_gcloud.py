#!/usr/bin/env python3
"""A gcloud that plays a script: FAKE_GCLOUD names a JSON file {"create ZONE": [answers], ...}; each call takes one.

An answer is {"rc": 0, "text": "...", "sleep": seconds, "make": state, "bytes": hex}. Resources live in a second file,
so that describe and delete see what create has made.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

script = Path(os.environ["FAKE_GCLOUD"])
world = script.with_suffix(".world")
calls = script.with_suffix(".calls")

arguments = sys.argv[1:]
verb = next(word for word in arguments if word in ("create", "describe", "delete"))
name = arguments[arguments.index(verb) + 1]
zone = next(word.split("=", 1)[1] for word in arguments if word.startswith("--zone="))
with calls.open("a") as file:
    file.write(" ".join(arguments) + "\n")

plays = json.loads(script.read_text())
made = json.loads(world.read_text()) if world.exists() else {}
queue = plays.get(f"{verb} {zone}", [])
answer = queue.pop(0) if queue else {}
script.write_text(json.dumps(plays))

key = f"{name} {zone}"
if verb == "create" and "make" in answer:
    made[key] = answer["make"]
if verb == "describe" and not answer:
    states = made.get(key)
    if not states:
        answer = {"rc": 1, "text": f"ERROR: The resource '{name}' was not found"}
    else:
        answer = {"rc": 0, "text": states[0]}
        made[key] = states[1:] or states
if verb == "delete" and not answer:
    answer = {"rc": 0, "text": "Deleted."} if made.pop(key, None) else {"rc": 1, "text": "ERROR: was not found"}
world.write_text(json.dumps(made))
time.sleep(answer.get("sleep", 0))
out = sys.stderr if answer.get("rc") else sys.stdout
if "bytes" in answer:
    out.buffer.write(bytes.fromhex(answer["bytes"]))
else:
    out.write(answer.get("text", "") + "\n")
sys.exit(answer.get("rc", 0))
