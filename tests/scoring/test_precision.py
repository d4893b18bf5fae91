"""dtype="auto": the choice follows the hardware and says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorematrix import load_backend
from scorematrix.models import load_model
from scorematrix.scoring.precision import auto_dtype


@pytest.mark.parametrize(
    ("kind", "flags", "dtype", "why"),
    [
        ("cpu", "fpu sse avx512f avx512_bf16 amx_bf16", "bfloat16", "amx_bf16"),
        ("cpu", "fpu sse avx512f avx512_bf16", "bfloat16", "avx512_bf16"),
        ("cpu", "fpu sse avx2", "float32", "neither"),
        ("cpu", None, "float32", "neither"),
        ("gpu", None, "bfloat16", "gpu"),
        ("tpu", None, "bfloat16", "tpu"),
    ],
)
def test_choice(kind: str, flags: str | None, dtype: str, why: str, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nprocessor\t: 1\n")
    chosen, reason = auto_dtype(kind, cpuinfo)
    assert chosen == dtype and why in reason


@pytest.mark.parametrize("name", ["jax", "pytorch"])
@pytest.mark.parametrize("view", ["portable", "best_native"])
def test_both_frameworks_choose_alike_and_say_so(name: str, view: str) -> None:
    info = load_backend(name, view=view, model=load_model("random:tiny-llama"), device="cpu").info
    assert (info.dtype, info.settings["dtype_choice"]) == auto_dtype("cpu")
    asked = load_backend(name, view=view, model=load_model("random:tiny-llama"), device="cpu", dtype="float32").info
    assert asked.dtype == "float32" and asked.settings["dtype_choice"] == "asked for"
