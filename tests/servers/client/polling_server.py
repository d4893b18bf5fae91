"""A scoring server that polls for requests in a loop, as some do, so that it never rests: `polling_server.py PORT`."""

from __future__ import annotations

import runpy
import sys
import threading
import time
from pathlib import Path


def poll() -> None:
    while True:
        end = time.monotonic() + 0.02
        while time.monotonic() < end:
            pass
        time.sleep(0.001)


threading.Thread(target=poll, daemon=True).start()
sys.argv = ["dying_server.py", sys.argv[1], "999999"]
runpy.run_path(str(Path(__file__).with_name("dying_server.py")), run_name="__main__")
