import pytest

from neuronc.families.family import Part, Split
from neuronc.parallel.arrangement import arrange, arrange_units
from neuronc.parallel.heads import lay_out_heads


@pytest.mark.parametrize("features", [0, 1, 5, 8, 96])
@pytest.mark.parametrize("tp", [1, 2, 3, 8])
@pytest.mark.parametrize("width", [None, 1, 3])
def test_runs_of_features_are_arranged_as_one_by_one(
    features: int, tp: int, width: int | None
) -> None:
    split = Split(style="column", parts=(Part(unit="feature", width=width),))
    heads = lay_out_heads(8, 4, tp)
    size = features * (width or 1)
    assert arrange(split, size, heads, 64) == arrange_units(split, size, heads, 64)
