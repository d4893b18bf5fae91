"""The engine goes through the real TPU compiler, on a machine without a TPU; the contract itself: test_compiled."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment_of_users

LIBTPU = Path(sys.prefix) / "tpu-compiler" / "libtpu" / "libtpu.so"

PROGRAM = """
import json
from jax.experimental import topologies
from scorematrix import ScoreRequest
from scorematrix.models.random_weights import RANDOM_SHAPES
from scorematrix.scoring.jax.best_native import compile_program
from scorematrix.scoring.jax.device import weight_shapes
from scorematrix.scoring.shared_prefix import ProgramKey, lay_out

chip = topologies.get_topology_desc(
    platform="tpu", topology_name="v6e:1x1", chips_per_host_bounds=[1, 1, 1]
).devices[0]
config = RANDOM_SHAPES["qwen3-0.6b"]
step = lay_out(ScoreRequest([1] * 200, [[1] * 20] * 16, [9454, 2753]), range(16), with_query=True)
weights = weight_shapes(config, "bfloat16", chip)
program, event = compile_program(config, weights, ProgramKey(step.shape, 2, True, False), "pallas", chip)
memory = program.memory_analysis()
print(json.dumps({
    "program": event.program,
    "arguments": memory.argument_size_in_bytes,
    "n_params": config.n_params,
    "kernels": program.as_text().count("tpu_custom_call"),
}))
"""


@pytest.mark.chaos
def test_attention_on_a_tpu_is_the_pallas_kernel() -> None:
    if not LIBTPU.is_file():
        pytest.skip(f"the TPU compiler is not at {LIBTPU}; `make test` puts it there")
    # Compiling owns no chip, so that another process does the same is no reason to fail.
    environment = environment_of_users(TPU_LIBRARY_PATH=str(LIBTPU), ALLOW_MULTIPLE_LIBTPU_LOAD="1")
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["arguments"] >= 2 * found["n_params"], "all weights, in bfloat16, are arguments"
    assert found["kernels"] >= 2, "attention must be the Pallas kernels, not plain operations"
