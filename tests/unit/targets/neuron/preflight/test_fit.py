import pytest

from neuronc.errors import PlanError
from neuronc.parallel.plan import plan_parallelism
from neuronc.targets.neuron.preflight.fit import require_fit
from tests.unit.parallel.decoder_shapes import decoder_shapes, make_config


def fit(quantize: str | None) -> None:
    """A model of 10.6 billion parameters, on one core of 16 GiB."""
    config = make_config(
        hidden_size=4096, num_attention_heads=32, num_key_value_heads=8,
        intermediate_size=14336, num_hidden_layers=48,
    )  # fmt: skip
    plan = plan_parallelism(config, decoder_shapes(config), 1, quantize=quantize)
    require_fit(plan, config, dtype="bf16", batch_size=1, max_length=512, target="inf2", lnc=1)


def test_weights_count_as_they_are_stored() -> None:
    with pytest.raises(PlanError, match=r"needs 20\.0 GiB .*weights 19\.9") as caught:
        fit(None)
    assert "--quantize" in caught.value.hint
    fit("int8")
