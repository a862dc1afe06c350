import subprocess
import sys

import pytest

from neuronc.errors import InputError
from neuronc.families.transformers_source import known_model_types, read_family_source

COMPUTED_PLANS = {"hrm_text"}
"""Plans that transformers makes in code; they are not literals and read as none."""


def causal_model_types() -> list[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) & set(known_model_types()))


def test_plans_read_from_source_are_those_of_the_imported_classes() -> None:
    from transformers import CONFIG_MAPPING

    plans = {}
    for model_type in causal_model_types():
        plans[model_type] = dict(read_family_source(model_type).tp_plan)
        expected = dict(CONFIG_MAPPING[model_type].base_model_tp_plan or {})
        assert plans[model_type] == ({} if model_type in COMPUTED_PLANS else expected), model_type
    assert sum(bool(plan) for plan in plans.values()) > 60


def test_every_known_model_type_has_a_configuration_to_read() -> None:
    for model_type in known_model_types():
        assert read_family_source(model_type).model_type == model_type


def test_defaults_are_literals_validated_fields_and_products() -> None:
    llama = read_family_source("llama").defaults
    assert (llama["hidden_size"], llama["tie_word_embeddings"]) == (4096, False)
    assert llama["initializer_range"] == 0.02
    assert read_family_source("mistral").defaults["max_position_embeddings"] == 4096 * 32


def test_fields_computed_in_code_are_left_out() -> None:
    assert "__post_init__" not in read_family_source("llama").defaults
    assert "base_model_tp_plan" not in read_family_source("hrm_text").defaults


@pytest.mark.parametrize("model_type", ["lama", "qwen9"])
def test_an_unknown_architecture_names_the_nearest_known(model_type: str) -> None:
    with pytest.raises(
        InputError, match=f"unknown architecture: model_type '{model_type}'"
    ) as caught:
        read_family_source(model_type)

    nearest = {"lama": "llama", "qwen9": "qwen3"}[model_type]
    assert "nearest known: " in caught.value.hint
    assert nearest in caught.value.hint


@pytest.mark.parametrize("model_type", ["", "../llama", "zzzzzzzz"])
def test_an_architecture_like_nothing_known_is_refused(model_type: str) -> None:
    with pytest.raises(InputError, match="unknown architecture"):
        read_family_source(model_type)


def test_reading_a_family_imports_neither_transformers_nor_torch() -> None:
    code = (
        "import sys; from neuronc.families.transformers_source import read_family_source as read;"
        "read('llama'); print(sorted({'torch', 'transformers', 'jax', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
