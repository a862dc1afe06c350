from typing import Any

import numpy as np
import pytest

from neuronc.targets.neuron.hlo.schema import MODERN
from tests.hlo_programs import from_text, legal_module, runner

# Control predecessors on a call, a tuple, a read of a tuple, dead code and a sort
WAITING = """HloModule m{scheduled}
callee {{
  p = f32[4] parameter(0)
  inner = f32[4] exponential(p)
  ROOT result = f32[4] negate(inner), control-predecessors={{inner}}
}}
by {{
  a = f32[] parameter(0)
  b = f32[] parameter(1)
  ROOT less = pred[] compare(a, b), direction=LT
}}
ENTRY e {{
  x = f32[4] parameter(0)
  early = f32[4] add(x, x)
  called = f32[4] call(x), to_apply=callee, control-predecessors={{early}}
  both = (f32[4], f32[4]) tuple(early, called), control-predecessors={{called}}
  second = f32[4] get-tuple-element(both), index=1
  after_call = f32[4] multiply(x, x), control-predecessors={{called}}
  after_tuple = f32[4] abs(x), control-predecessors={{both, second}}
  dead = f32[4] cosine(x), control-predecessors={{after_call}}
  after_dead = f32[4] sine(x), control-predecessors={{dead}}
  sorted = f32[4] sort(x), dimensions={{0}}, to_apply=by, control-predecessors={{early}}
  after_sort = f32[4] floor(x), control-predecessors={{sorted}}
  early_too = f32[4] ceil(early)
  ROOT t = (f32[4], f32[4], f32[4], f32[4], f32[4], f32[4], f32[4]) tuple(early_too, second, after_call, after_tuple, after_dead, sorted, after_sort)
}}
"""


@pytest.mark.parametrize("scheduled", ["", ", is_scheduled=true"])
def test_control_predecessors_name_what_stands_for_them(scheduled: str) -> None:
    hlo = from_text(WAITING.format(scheduled=scheduled))
    assert bool(MODERN.FromString(hlo).schedule) == bool(scheduled)
    module = legal_module(hlo, num_outputs=7)
    by_id = {i.id: i for i in module.computations[-1].instructions}
    waits = {
        i.opcode: [by_id[number].opcode for number in i.control_predecessor_ids]
        for i in by_id.values()
        if i.opcode in ("exponential", "negate", "multiply", "abs", "sine")
    }
    assert waits == {
        "exponential": ["add"],
        "negate": ["exponential", "add"],
        "multiply": ["negate"],
        "abs": ["negate", "add"],
        "sine": ["multiply"],
    }
    (floor,) = (i for i in by_id.values() if i.opcode == "floor")
    (of_sort,) = (by_id[number] for number in floor.control_predecessor_ids)
    assert of_sort.opcode == "reduce"
    made = [i for i in by_id.values() if i.name.startswith("sorted")]
    assert len(made) > 10
    assert {by_id[n].opcode for i in made for n in i.control_predecessor_ids} == {"add"}
    assert all(i.control_predecessor_ids for i in made)


def test_waiting_and_a_schedule_change_no_number() -> None:
    x = np.array([3, -1, 2, 0.5], np.float32)
    module = legal_module(from_text(WAITING.format(scheduled=", is_scheduled=true")), num_outputs=7)
    found = runner(module.SerializeToString(), [x] * 7)(x)
    expected: list[Any] = [
        np.ceil(2 * x),
        -np.exp(x),
        x * x,
        abs(x),
        np.sin(x),
        np.sort(x),
        np.floor(x),
    ]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_result_that_others_read_is_copied_to_the_end() -> None:
    hlo = from_text("""HloModule m
sum {
  a = f32[] parameter(0)
  b = f32[] parameter(1)
  ROOT c = f32[] add(a, b)
}
ENTRY e {
  x = f32[4] parameter(0)
  y = f32[4] negate(x)
  kept = f32[4] all-reduce(y), replica_groups={{0,1}}, to_apply=sum
  both = (f32[4], f32[4]) tuple(y, kept)
  ROOT first = f32[4] get-tuple-element(both), index=0
}
""")
    opcodes = [i.opcode for i in legal_module(hlo).computations[-1].instructions]
    assert opcodes == ["parameter", "negate", "all-reduce", "copy"]


@pytest.mark.parametrize(("kept", "order"), [("new", [0, 1]), ("old", [1, 0])])
def test_a_scatter_that_overwrites_keeps_its_plain_body(kept: str, order: list[int]) -> None:
    hlo = from_text(
        """HloModule m
body {
  old = s64[] parameter(0)
  new = s64[] parameter(1)
  ROOT same = s64[] convert(KEPT)
}
ENTRY e {
  x = s64[4] parameter(0)
  i = s64[1] constant({2})
  u = s64[] constant(7)
  ROOT y = s64[4] scatter(x, i, u), update_window_dims={}, inserted_window_dims={0}, \
scatter_dims_to_operand_dims={0}, index_vector_dim=0, to_apply=body
}
""".replace("KEPT", kept)
    )
    module = MODERN.FromString(hlo)
    instructions = module.computations[0].instructions
    instructions.sort(key=lambda i: ("old", "new", "same").index(i.name))
    body = legal_module(module.SerializeToString()).computations[0]
    assert [(i.opcode, i.parameter_number) for i in body.instructions] == [
        ("parameter", number) for number in order
    ]
    assert body.root_id == body.instructions[-1].id
