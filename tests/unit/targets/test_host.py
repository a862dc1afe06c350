"""What the processor can."""

import pytest

from neuronc.targets import host


@pytest.mark.parametrize(
    ("isa", "can"),
    [
        (("avx2", "avx512_bf16", "avx512f"), True),
        (("amx_bf16", "amx_tile"), True),
        (("asimd", "bf16"), True),
        (("sve", "svebf16"), True),
        (("avx2", "avx512f", "avx512_fp16", "f16c"), False),
        ((), False),
    ],
)
def test_products_of_bf16(
    isa: tuple[str, ...],
    can: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host, "_isa_extensions", lambda: isa)
    assert host.multiplies_bf16() is can
