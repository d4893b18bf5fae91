"""Both libraries that multiply float32 matrices on a CPU: the same products, plain and in compiled programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scorematrix.scoring.pytorch import products
from scorematrix.scoring.pytorch.compiled import compiled

pytestmark = pytest.mark.skipif(not products.HAS_BOTH, reason="this PyTorch lacks MKL or oneDNN")


@pytest.fixture(params=[True, False], ids=["oneDNN", "MKL"])
def by_onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(products, "ONEDNN", request.param)
    return request.param


@pytest.fixture
def matrices() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(37, 64, generator=generator), torch.randn(64, 96, generator=generator)


def exact(a: Tensor, b: Tensor) -> Tensor:
    return a.double() @ b.double()


def test_the_product_is_that_of_float64(by_onednn: bool, matrices: tuple[Tensor, Tensor]) -> None:
    a_ti, b_io = matrices
    for b in (b_io, b_io.t().contiguous().t()):  # a weight, and the head's transposed rows
        found = products.matmul(a_ti, b)
        assert found.dtype == torch.float32 and (found - exact(a_ti, b)).abs().max() < 1e-4
    assert products.matmul_name(a_ti.device, a_ti.dtype) == ("oneDNN" if by_onednn else "torch.mm")


def test_other_formats_and_devices_use_their_own(
    by_onednn: bool, matrices: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "WIDENS", False)
    half = [one.bfloat16() for one in matrices]
    assert torch.equal(products.matmul(*half), torch.mm(*half))
    for device, dtype in (("cpu", torch.bfloat16), ("cuda", torch.float32)):
        assert products.matmul_name(torch.device(device), dtype) == "torch.mm"


def test_bfloat16_multiplied_in_float32_is_rounded_once(
    by_onednn: bool, matrices: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "WIDENS", True)
    a_ti, b_io = (one.bfloat16() for one in matrices)
    found, expected = products.matmul(a_ti, b_io), exact(a_ti, b_io)
    assert found.dtype == torch.bfloat16
    assert (found - expected).abs().max() <= (expected.abs().max() * torch.finfo(torch.bfloat16).eps / 2)
    assert products.matmul_name(a_ti.device, a_ti.dtype) == f"{'oneDNN' if by_onednn else 'torch.mm'} in float32"


def test_a_product_outside_of_a_program_does_not_import_the_compiler() -> None:
    """The import takes seconds, and every collection of garbage would scan what it loads."""
    code = (
        "import sys, torch\n"
        "from scorematrix.scoring.pytorch import products\n"
        "products.ONEDNN = True\n"
        "before = set(sys.modules)\n"
        "products.matmul(torch.rand(4, 4), torch.rand(4, 4))\n"
        "print(len(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert int(done.stdout) < 10, done.stderr


@pytest.mark.chaos
def test_a_compiled_program_uses_the_library_for_all_lengths(
    by_onednn: bool,
    matrices: tuple[Tensor, Tensor],
    inductor: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("SCOREMATRIX_CACHE", str(tmp_path))

    @compiled
    def shifted(a_ti: Tensor, b_oi: Tensor) -> Tensor:
        return products.matmul(a_ti * 2, b_oi.t()) + 1

    a_ti, b_io = matrices
    for rows in (37, 5):
        found = shifted(a_ti[:rows], b_io.t())
        assert (found - (2 * exact(a_ti[:rows], b_io) + 1)).abs().max() < 1e-4
    (program,) = (tmp_path / "compiled" / "pytorch").glob("shifted-*.so")
    assert (b"aoti_torch_cpu__linear_pointwise" in program.read_bytes()) == by_onednn
