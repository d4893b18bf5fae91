"""Programs for a CPU that are compiled ahead of time: kept on disk, made once, never taken for one another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scorematrix.scoring.pytorch import ahead
from scorematrix.scoring.pytorch.compiled import compiled
from scorematrix.scoring.pytorch.compiles import COUNTS
from tests.conftest import environment_of_users

SCRIPT = """
import sys, torch
from scorematrix.scoring.pytorch.compiled import compiled
from scorematrix.scoring.pytorch.compiles import COUNTS

@compiled
def scaled(by: int, x_td: torch.Tensor) -> torch.Tensor:
    return by * x_td + 1

x = torch.arange(12.0).reshape(6, 2)
assert torch.equal(scaled(3, x), 3 * x + 1) and torch.equal(scaled(3, x[:4]), 3 * x[:4] + 1)
print(COUNTS.made, COUNTS.loaded, any(name.startswith("torch._inductor") for name in sys.modules))
"""


@compiled
def scaled(by: int, x_td: torch.Tensor) -> torch.Tensor:
    return by * x_td + 1


@pytest.mark.chaos
def test_one_process_compiles_and_later_ones_load_without_a_compiler(tmp_path: Path) -> None:
    (script := tmp_path / "script.py").write_text(SCRIPT)
    environment, command = environment_of_users(SCOREMATRIX_CACHE=str(tmp_path)), [sys.executable, str(script)]
    together = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(process.communicate(timeout=300)[0].split() for process in together)
    assert said == [["0", "1", "False"], ["1", "0", "True"]]
    (library,) = (tmp_path / "compiled" / "pytorch").glob("*.so")
    assert library.name.startswith("scaled-")
    assert {path.suffix for path in library.parent.iterdir()} == {".so", ".lock"}, "nothing half-made is left"


class Made:
    """Stands for a program."""

    def run(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        return inputs[:1]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Files that would be compiled, from now on."""
    found: list[Path] = []
    monkeypatch.setenv("SCOREMATRIX_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_COMPILE_OVERRIDE_BACKENDS", "")
    monkeypatch.setattr(ahead, "_compile", lambda function, args, path: found.append(path))
    monkeypatch.setattr(torch._C._aoti, "AOTIModelContainerRunnerCpu", lambda path, n: Made())
    return found


def test_what_a_program_depends_on_tells_it_from_others(
    made: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = {
        "plain": (2, torch.ones(4, 3)),
        "constant": (3, torch.ones(4, 3)),
        "width": (2, torch.ones(4, 5)),
        "strides": (2, torch.ones(3, 4).T),
        "dtype": (2, torch.ones(4, 3, dtype=torch.bfloat16)),
        "one row": (2, torch.ones(1, 3)),
    }
    for args in calls.values():
        scaled(*args)
    assert len(set(made)) == len(calls)
    for n in (2, 3, 500):
        scaled(2, torch.ones(n, 3))
    assert len(made) == len(calls), "one program for all lengths"
    (architectures := tmp_path / "config.py").write_text("a corrected table")
    changes = {
        "_processor": lambda: "another",
        "torch.get_num_threads": lambda: 99,
        "config.__file__": str(architectures),
    }
    for name, value in changes.items():
        with monkeypatch.context() as patch:
            patch.setattr(f"scorematrix.scoring.pytorch.ahead.{name}", value)
            ahead.load_program(scaled.__wrapped__, calls["plain"])
    assert len(set(made)) == len(calls) + len(changes)


def test_nothing_is_compiled_where_pytorch_is_told_not_to(made: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    before, x = (COUNTS.made, COUNTS.loaded), torch.ones(7, 11)
    assert torch.equal(scaled(5, x), 5 * x + 1)
    assert made == [] and (COUNTS.made, COUNTS.loaded) == before
    assert not os.listdir(os.environ["SCOREMATRIX_CACHE"])
