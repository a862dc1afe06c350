from typing import Any

import pytest

from tests.unit.targets.neuron.preflight.hlo_builder import HloBuilder


def windowed(opcode: str, operands: int = 2, **sizes: int) -> HloBuilder:
    plain = {"size": 3, "stride": 1, "base_dilation": 1, "window_dilation": 1}
    hlo = HloBuilder()
    x = hlo.parameter("f32[1,8,8,1]")
    window = {"dimensions": [plain, {**plain, **sizes}]}
    hlo.op(opcode, "f32[1,6,6,1]", *[x] * operands, window=window)
    return hlo


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({}, []),
        ({"base_dilation": 2}, []),
        ({"window_dilation": 2}, []),
        ({"stride": 2}, []),
        ({"stride": 2, "window_dilation": 2}, []),
        ({"base_dilation": 2, "window_dilation": 2}, ["EVRF010"]),
        ({"base_dilation": 2, "stride": 2}, ["EVRF011"]),
    ],
)
def test_a_convolution_dilates_one_thing_at_a_time(
    sizes: dict[str, int], expected: list[str]
) -> None:
    assert windowed("convolution", **sizes).codes() == expected


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({}, []),
        ({"stride": 2}, []),
        ({"base_dilation": 2}, ["EVRF017"]),
        ({"window_dilation": 3}, ["EVRF018"]),
        ({"operands": 4}, ["EVRF019"]),
    ],
)
def test_a_window_reduction_is_plain(sizes: dict[str, Any], expected: list[str]) -> None:
    assert windowed("reduce-window", **sizes).codes() == expected


@pytest.mark.parametrize(("algorithm", "expected"), [(0, []), (1, ["EVRF006"]), (2, ["EVRF006"])])
def test_random_bits_come_from_the_device(algorithm: int, expected: list[str]) -> None:
    hlo = HloBuilder()
    state = hlo.parameter("u32[2]")
    hlo.op("rng-bit-generator", "(u32[2],u32[4])", state, rng_algorithm=algorithm)
    assert hlo.codes() == expected
