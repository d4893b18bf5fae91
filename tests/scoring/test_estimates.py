"""What is read of a compiler's estimates: from the text that a TPU's compiler writes, and from a real program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from scorematrix.results import CompilerEstimate
from scorematrix.scoring.jax.estimates import estimate, loop_trips, read_operations

# Lines of the contract's program for a v6e (libtpu 0.0.42.1), shortened: shapes, operands and most attributes left out.
CONDITION = """
%wide.region_9 (wide.arg_tuple.1: (s32[], f32[12288,1024])) -> pred[] {
  %constant.467 = s32[]{:T(128)} constant(27)
  %get-tuple-element.491 = s32[]{:T(128)} get-tuple-element(%wide.arg_tuple.1), index=0
  ROOT %lt.84 = pred[]{:T(512)} compare(%get-tuple-element.491, %constant.467), direction=LT
}
"""
TPU_TEXT = f"""HloModule jit_program, is_scheduled=true

%fused_computation.36 (param_0.723: bf16[28,1024,3072]) -> bf16[12288,3072] {{
  %convolution.9 = bf16[12288,3072] convolution(%a, %b), metadata={{op_name="jit(program)/linear/td,df->tf"}}
}}

%wide.region_0 (wide.arg_tuple.0: (s32[], f32[12288,1024])) -> (s32[], f32[12288,1024]) {{
  %fusion.183 = bf16[12288,3072]{{1,0:T(8,128)}} fusion(%p), kind=kOutput, calls=%fused_computation.36, metadata={{op_name="jit(program)/while/body/closed_call/linear/td,df->tf/dot_general"}}, backend_config={{"window_config":{{"estimated_cycles":"389969"}}}}
  %joint_attention.8 = bf16[16,128,12288] custom-call(%fusion.179), custom_call_target="tpu_custom_call", metadata={{op_name="jit(program)/while/body/closed_call/prefix_attention/joint_attention/pallas_call"}}, backend_config={{"custom_call_config":{{"body":"TUzv"}}}}
}}
{CONDITION}
ENTRY %main.32 (Arg_0.1: bf16[151936,1024]) -> f32[504,2] {{
  %while.9 = (s32[]{{:T(128)}}, f32[12288,1024]) while(%tuple.1), condition=%wide.region_9, body=%wide.region_0
  %copy.320 = f32[12288,1024] copy(%c), backend_config={{"window_config":{{"estimated_cycles":"9223372036854775807"}}}}
  ROOT %fusion.61 = bf16[12288,2048] fusion(%d), kind=kOutput, metadata={{op_name="jit(program)/linear/td,dnh->tnh/dot_general"}}, backend_config={{"window_config":{{"estimated_cycles":"311360"}}}}
}}
"""  # noqa: E501


class Program:
    """As much of a compiled program as an estimate asks for."""

    def __init__(self, text: str, **analysis: float) -> None:
        self.as_text, self.cost_analysis = lambda: text, lambda: analysis


def test_operations_of_a_loop_count_by_its_trips() -> None:
    found = [tuple(op) for op in read_operations(TPU_TEXT)]
    assert found == [
        ("fusion.183", "td,df->tf/dot_general", "linear", 27, 389969),
        ("joint_attention.8", "joint_attention/pallas_call", "prefix_attention", 27, None),
        ("fusion.61", "td,dnh->tnh/dot_general", "linear", 1, 311360),
    ], "an operation of unknown cycles is none of them"


@pytest.mark.parametrize(
    ("condition", "trips"),
    [
        (CONDITION, 27),
        (CONDITION.replace("direction=LT", "direction=NE"), 1),
        (CONDITION.replace("constant(27)", "parameter(0)"), 1),
        (CONDITION.replace("  ROOT", "  %constant.5 = s32[] constant(5)\n  ROOT"), 1),
    ],
)
def test_a_loop_of_unknown_trips_counts_once(condition: str, trips: int) -> None:
    text = TPU_TEXT.replace(CONDITION, condition)
    assert loop_trips(text) == [trips]
    assert [op.runs for op in read_operations(text)] == [trips, trips, 1]


def test_the_programs_of_a_call_count_together() -> None:
    first = Program(TPU_TEXT, flops=1e12, optimal_seconds=-6.0, **{"bytes accessed": 4e9})
    second = Program(TPU_TEXT.replace("389969", "400000"), flops=2e12, optimal_seconds=0.5, **{"bytes accessed": 1e9})
    found = CompilerEstimate(**estimate([(first, 1), (second, 3)]))
    assert (found.flops, found.bytes_accessed, found.loop_trips) == (7e12, 7e9, 27)
    assert found.optimal_seconds is None, "XLA has no time for our kernel"
    assert found.cycles == 27 * 389969 + 311360 + 3 * (27 * 400000 + 311360)
    assert [(op.runs, op.cycles) for op in found.costliest] == [(81, 400000), (27, 389969), (3, 311360), (1, 311360)]
    assert found.without_cycles == ["joint_attention"]
    assert found.share(found.costliest[0]) == pytest.approx(81 * 400000 / found.cycles)
    plain = Program(TPU_TEXT.replace("tpu_custom_call", "another"), optimal_seconds=0.5)
    assert estimate([(plain, 3)])["optimal_seconds"] == 1.5 and estimate([(second, 3)])["optimal_seconds"] is None


def test_a_real_program_of_the_cpu_has_counts_and_no_cycles() -> None:
    def layers(n: int) -> CompilerEstimate:
        def program(x):
            return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, jnp.ones((n, 64, 64)))[0]

        compiled = jax.jit(program).lower(jax.ShapeDtypeStruct((64, 64), jnp.float32)).compile()
        return CompilerEstimate(**estimate([(compiled, 1)]))

    five, nine = layers(5), layers(9)
    assert (five.loop_trips, nine.loop_trips) == (5, 9)
    assert five.flops is not None and nine.flops is not None and 2 * 64**3 <= five.flops < 2 * 2 * 64**3
    assert nine.flops == pytest.approx(five.flops, rel=0.2), "XLA counts the body of a loop once"
    assert five.cycles is None and five.costliest == [] and five.without_cycles == []
