"""Install scorematrix and its pinned packages into the environment of the Python that runs this: `make setup`.

    .venv/bin/python lib/install.py --extras cpu,dev [--with uv|none] [--lowest]

uv installs, and pip where uv is missing or fails. uv does not read pip's configuration, so this translates it: mirrors,
folders of wheels, constraints, certificates. Standard library only, because nothing else is installed yet.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "lib" / "constraints.txt"
AS_PINNED = ("torch", "pytest", "pytest-rerunfailures", "pytest-timeout", "pytest-xdist", "hypothesis", "jsonschema")
"""With --lowest: what tests with, and torch, whose lowest version would be a CUDA build of several GB."""
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def main() -> int:
    """Install; return 0, or the exit code of pip, the last resort."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="cpu,dev", help="extras of pyproject.toml, separated by commas")
    parser.add_argument("--with", dest="installer", choices=["uv", "none"], default="uv", help="none: pip installs")
    parser.add_argument("--lowest", action="store_true", help="the lowest versions of the ranges instead of the pins")
    options = parser.parse_args()
    if options.lowest and options.installer == "none":
        parser.error("--lowest needs uv")
    what = ["--constraint", str(PINS), "--editable", f"{ROOT}[{options.extras}]"]
    if options.lowest:
        what = ["--resolution", "lowest-direct", *what[2:], *map(pin_of, AS_PINNED)]
    start = time.monotonic()
    uv = None
    if options.installer == "uv":
        uv = install_uv()
    else:
        say(2, "no uv, as UV=none asks")
    code = install_with_uv(uv, options.extras, what) if uv else None
    if code != 0 and not options.lowest:
        say(3, f"pip installs the packages of {options.extras}; this takes minutes")
        code = subprocess.call([*PIP, "install", *what])
    if code is None:
        return 1
    if code == 0:
        print(f"Installed in {time.monotonic() - start:.0f} s.", flush=True)
    return code


def pin_of(package: str) -> str:
    """Return a package's line in the constraints, without its remark."""
    lines = (line.split("#")[0].strip() for line in PINS.read_text().splitlines())
    return next(line for line in lines if line.replace("_", "-").startswith(f"{package}=="))


def install_uv() -> Path | None:
    """Install the pinned uv next to this Python and return its path; None if that fails."""
    pin = pin_of("uv")
    say(2, f"pip installs {pin}")
    uv = Path(sys.executable).with_name("uv")
    if subprocess.call([*PIP, "install", "--quiet", pin]) == 0 and uv.is_file():
        return uv
    print("uv could not be installed.", flush=True)
    return None


def install_with_uv(uv: Path, extras: str, what: list[str]) -> int:
    """Install with uv as pip is configured here; return uv's exit code."""
    say(3, f"uv installs the packages of {extras}")
    flags, variables = uv_settings(pip_settings())
    command = [str(uv), "pip", "install", "--python", sys.executable, *flags, *what]
    try:
        code = subprocess.call(command, env=variables | os.environ)
    except OSError as error:
        print(error, flush=True)
        code = 1
    if code != 0:
        print(f"uv failed with exit code {code}.", flush=True)
    return code


def say(step: int, text: str) -> None:
    """Print one of the three steps; the Makefile prints the first."""
    print(f"[{step}/3] {text}", flush=True)


def pip_settings() -> dict[str, str]:
    """Read pip's settings by option name. Variables win over `[install]`, and that over `[global]`, as in pip."""
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True).stdout
    return read_settings(listed)


def read_settings(listed: str) -> dict[str, str]:
    """Parse the output of `pip config list`: lines of `section.option='value'`."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.partition(".")
        if section in sections and value:
            sections[section][option] = ast.literal_eval(value)
    return sections["global"] | sections["install"] | sections[":env:"]


def uv_settings(pip: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Translate pip's settings into flags of uv and environment variables.

    Index addresses may contain a password, so they go into variables, which the list of processes does not show.
    """
    flags, variables = [], {}
    for option in ("find-links", "constraint"):
        for value in pip.get(option, "").split():
            flags += [f"--{option}", value]
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        flags.append("--no-index")
    for option, variable in (
        ("index-url", "UV_DEFAULT_INDEX"),
        ("extra-index-url", "UV_INDEX"),
        ("trusted-host", "UV_INSECURE_HOST"),
        ("cert", "SSL_CERT_FILE"),
        ("default-timeout", "UV_HTTP_TIMEOUT"),
        ("timeout", "UV_HTTP_TIMEOUT"),
    ):
        if value := " ".join(pip.get(option, "").split()):
            variables[variable] = value
    if "UV_INDEX" in variables:  # pip takes the best version of all indexes, uv that of the first with the package
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return flags, variables


if __name__ == "__main__":
    sys.exit(main())
