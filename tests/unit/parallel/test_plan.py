import re
from dataclasses import replace

import pytest

from neuronc.errors import InputError, PlanError, UsageError
from neuronc.families.family import rows
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.plan import ParallelPlan, plan_parallelism
from neuronc.parallel.rules import Piece, is_layout
from neuronc.trace.meta_model import parameter_shapes
from tests.unit.parallel.decoder_shapes import decoder_shapes, make_config

LAYER = "model.layers.0"


def plan_of(config: ModelConfig, tp: int, **shapes: tuple[int, ...]) -> ParallelPlan:
    return plan_parallelism(config, {**decoder_shapes(config), **shapes}, tp)


@pytest.mark.parametrize("tp", [1, 2, 3, 4, 6, 8])
def test_every_parameter_of_smollm2_has_one_rule_and_equal_shards(tp: int) -> None:
    config = make_config()
    shapes = decoder_shapes(config)

    plan = plan_parallelism(config, shapes, tp)

    assert list(plan.rules) == list(shapes)
    for rule in plan.rules.values():
        lengths = {sum(piece.length for piece in pieces) for pieces in rule.ranks}
        assert len(lengths) == (0 if rule.dim is None else 1)


def test_roles_follow_the_plan_of_the_family() -> None:
    plan = plan_of(make_config(tie_word_embeddings=False), 2)

    roles = {name.removeprefix(f"{LAYER}."): rule.role for name, rule in plan.rules.items()}
    assert roles["model.embed_tokens.weight"] == "vocab_embedding"
    assert roles["lm_head.weight"] == "vocab_head"
    assert roles["self_attn.k_proj.weight"] == roles["mlp.up_proj.weight"] == "column"
    assert roles["self_attn.o_proj.weight"] == roles["mlp.down_proj.weight"] == "row"
    assert roles["input_layernorm.weight"] == roles["model.norm.weight"] == "replicate"


def test_query_and_output_projections_are_cut_at_the_same_heads() -> None:
    rules = plan_of(make_config(), 4).rules

    query, output = (rules[f"{LAYER}.self_attn.{name}_proj.weight"] for name in "qo")
    assert (query.dim, output.dim) == (0, 1)
    assert query.ranks == output.ranks
    assert query.ranks[3] == (Piece(start=None, length=3 * 64),)


def test_a_vocabulary_that_tp_does_not_divide_is_padded() -> None:
    plan = plan_of(make_config(vocab_size=49153), 2)

    rule = plan.rules["model.embed_tokens.weight"]
    assert plan.vocab_per_rank == rule.rank_shape[0] == 24577
    assert rule.ranks[1] == (Piece(start=24577, length=24576), Piece(start=None, length=1))


def test_one_rank_holds_everything_whole() -> None:
    rules = plan_of(make_config(), 1).rules

    assert {rule.role for rule in rules.values()} == {"replicate"}


@pytest.mark.parametrize("tp", [1, 2])
def test_a_parameter_without_a_rule_is_refused_by_name(tp: int) -> None:
    extra = f"{LAYER}.mlp.router.weight"

    with pytest.raises(InputError, match=re.escape(f"'{extra}' [4, 576]")):
        plan_of(make_config(), tp, **{extra: (4, 576)})


def test_a_parameter_with_two_rules_is_refused_by_name() -> None:
    config = make_config()
    splits = {**config.family.splits, "layers.0.mlp.up_proj": rows("feature")}
    twice = replace(config, family=replace(config.family, splits=splits))

    with pytest.raises(PlanError, match=r"2 sharding rules match 'model\.layers\.0\.mlp\.up_proj"):
        plan_of(twice, 2)


@pytest.mark.parametrize(("features", "tp"), [(1536, 5), (1538, 4), (3, 8)])
def test_features_that_tp_does_not_divide_are_padded(features: int, tp: int) -> None:
    rules = plan_of(make_config(intermediate_size=features), tp).rules

    up, down = (rules[f"{LAYER}.mlp.{name}_proj.weight"] for name in ("up", "down"))
    per_rank = -(-features // tp)
    assert up.rank_shape == (per_rank, 576)
    assert up.ranks == down.ranks
    real = [piece.length for rank in up.ranks for piece in rank if piece.start is not None]
    assert sum(real) == features


def test_more_ranks_than_heads_are_refused() -> None:
    with pytest.raises(PlanError, match="num_attention_heads=9 cannot be split over tp=10") as told:
        plan_of(make_config(), 10)

    assert told.value.exit_code == 4
    assert told.value.hint == "pass --tp 9 or less"


@pytest.mark.parametrize("tp", [0, -2])
def test_less_than_one_rank_is_a_usage_error(tp: int) -> None:
    with pytest.raises(UsageError, match=f"tp={tp}"):
        plan_of(make_config(), tp)


@pytest.mark.parametrize("family", ["glm", "biogpt", "apertus"])
def test_a_family_that_nobody_described_gathers_every_linear_layer(family: str) -> None:
    config = make_config(
        model_type=family,
        hidden_size=36,
        num_attention_heads=6,
        num_key_value_heads=6,
        intermediate_size=50,
        vocab_size=61,
        num_hidden_layers=1,
        pad_token_id=0,
        d_model=36,
        attention_heads=6,
        ffn_dim=50,
        num_layers=1,
    )
    shapes = parameter_shapes(config.raw)

    rules = plan_parallelism(config, shapes, 4).rules

    assert rules.keys() == shapes.keys()
    roles = {rule.role for rule in rules.values()}
    assert roles >= {"gather", "vocab_embedding", "replicate"}
    assert not roles & {"row", "column"}
    assert all(is_layout(rule, 4) for rule in rules.values())
    linear = next(rule for rule in rules.values() if rule.role == "gather")
    assert linear.rank_shape[0] == -(-linear.shape[0] // 4)
    assert {rule.role for rule in plan_parallelism(config, shapes, 1).rules.values()} == {
        "replicate"
    }


def test_a_parameter_that_the_generic_model_lacks_is_refused_by_name() -> None:
    config = make_config(model_type="glm", num_hidden_layers=1, pad_token_id=0)

    with pytest.raises(InputError, match=r"the model has no parameter 'anything.weight' \[4, 3\]"):
        plan_parallelism(config, {"anything.weight": (4, 3)}, 2)


def test_norms_over_one_head_are_replicated() -> None:
    config = make_config(model_type="qwen3", head_dim=64)
    shapes = decoder_shapes(config, norms=("self_attn.q_norm", "self_attn.k_norm"))

    rules = plan_parallelism(config, shapes, 3).rules

    assert rules[f"{LAYER}.self_attn.q_norm.weight"].rank_shape == (64,)


def test_a_norm_over_all_heads_cannot_be_split() -> None:
    config = make_config(model_type="qwen3", head_dim=64)
    shapes = {**decoder_shapes(config), f"{LAYER}.self_attn.q_norm.weight": (9, 64)}

    with pytest.raises(PlanError, match=r"q_norm.weight' \[9, 64\] spans heads of several ranks"):
        plan_parallelism(config, shapes, 3)
    assert plan_parallelism(config, shapes, 1).tp == 1


def test_the_bias_of_a_column_parallel_linear_is_cut_with_its_rows() -> None:
    config = make_config(model_type="qwen2")
    shapes = decoder_shapes(config, bias=("self_attn.q_proj", "self_attn.k_proj"))

    rules = plan_parallelism(config, shapes, 2).rules

    weight, bias = (rules[f"{LAYER}.self_attn.k_proj.{leaf}"] for leaf in ("weight", "bias"))
    assert bias.role == "column"
    assert bias.ranks == weight.ranks


def test_the_bias_of_a_row_parallel_linear_is_replicated() -> None:
    config = make_config(attention_bias=True)
    shapes = decoder_shapes(config, bias=("self_attn.o_proj", "mlp.down_proj"))

    rules = plan_parallelism(config, shapes, 2).rules

    assert rules[f"{LAYER}.self_attn.o_proj.bias"].role == "replicate"
    assert rules[f"{LAYER}.mlp.down_proj.bias"].role == "replicate"


@pytest.mark.parametrize("tp", [1, 2])
@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [
        ("model.embed_tokens.weight", (49151, 576), [49152, 576]),
        (f"{LAYER}.self_attn.q_proj.weight", (512, 576), [576, 576]),
        (f"{LAYER}.self_attn.k_proj.weight", (576, 576), [192, 576]),
        (f"{LAYER}.self_attn.o_proj.weight", (576, 512), [576, 576]),
        (f"{LAYER}.mlp.up_proj.weight", (576, 1536), [1536, 576]),
        (f"{LAYER}.mlp.down_proj.weight", (576, 1535), [576, 1536]),
        (f"{LAYER}.mlp.up_proj.bias", (576,), [1536]),
        ("model.norm.weight", (575,), [576]),
    ],
)
def test_a_shape_that_the_config_does_not_give_is_refused(
    tp: int, name: str, found: tuple[int, ...], expected: list[int]
) -> None:
    message = f"'{name}' has shape {list(found)}; the config's sizes give {expected}"

    with pytest.raises(InputError, match=re.escape(message)):
        plan_of(make_config(), tp, **{name: found})
