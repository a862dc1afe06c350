import os
from pathlib import Path

import pytest

from neuronc.dtypes import COMPUTE_DTYPES
from neuronc.errors import InputError, UsageError
from neuronc.matrix.cells import has_builds, load_cells
from neuronc.recipe import DTYPE_CHOICES, Recipe, merge_flags
from neuronc.recipe_file import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def write(folder: Path, text: str) -> Path:
    path = folder / "some.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> InputError:
    path = write(folder, text)
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


def test_all_keys_are_read(tmp_path: Path) -> None:
    text = """
        checkpoint = "org/name"
        revision = "v1"
        tp = 2
        batch_size = 3
        max_length = 512
        prefill_buckets = [32, 128]
        decode_buckets = [256]
        dtype = "bf16"
        target = "trn2"
        out = "demo/x"
    """
    assert load_recipe(write(tmp_path, text)) == Recipe(
        checkpoint="org/name",
        revision="v1",
        tp=2,
        batch_size=3,
        max_length=512,
        prefill_buckets=(32, 128),
        decode_buckets=(256,),
        dtype="bf16",
        target="trn2",
        out=Path("demo/x"),
    )


def test_a_checkpoint_alone_is_a_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, 'checkpoint = "org/name"'))
    assert recipe == Recipe(checkpoint="org/name")


def test_unknown_key_is_refused_with_the_nearest_known_name(tmp_path: Path) -> None:
    error = refusal(tmp_path, 'checkpoint = "a/b"\nbatchsize = 2')
    assert "unknown key 'batchsize'" in error.message
    assert error.hint == "did you mean 'batch_size'?"


def test_unknown_key_like_no_other_is_refused_with_all_known_names(tmp_path: Path) -> None:
    error = refusal(tmp_path, 'checkpoint = "a/b"\nzzz = 2')
    assert "batch_size, max_length" in error.hint


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('tp = "2"', "tp: expected int, found str"),
        ("tp = true", "tp: expected int, found bool"),
        ("max_length = 2.0", "max_length: expected int, found float"),
        ("dtype = 32", "dtype: expected str, found int"),
        ("out = ['x']", "out: expected str, found list"),
        ("prefill_buckets = 32", "prefill_buckets: expected list of int, found int"),
        ("decode_buckets = [1, true]", "decode_buckets: expected list of int, found list holding"),
        ("[target]", "target: expected str, found dict"),
    ],
)
def test_wrong_type_is_refused_naming_expected_and_found(
    tmp_path: Path, line: str, expected: str
) -> None:
    assert expected in refusal(tmp_path, f'checkpoint = "a/b"\n{line}').message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tp = 0", "tp is 0"),
        ("batch_size = -1", "batch_size is -1"),
        ("max_length = 0", "max_length is 0"),
        ('dtype = "f64"', "dtype is 'f64'"),
        ('target = "gpu"', "target is 'gpu'"),
        ("prefill_buckets = [128, 32]", "prefill_buckets is [128, 32]"),
        ("prefill_buckets = [32, 32]", "prefill_buckets is [32, 32]"),
        ("decode_buckets = [0, 32]", "decode_buckets is [0, 32]"),
        ("max_length = 64\nprefill_buckets = [32, 128]", "prefill_buckets holds 128"),
    ],
)
def test_impossible_value_is_refused_naming_the_key(
    tmp_path: Path, line: str, expected: str
) -> None:
    assert expected in refusal(tmp_path, f'checkpoint = "a/b"\n{line}').message


@pytest.mark.parametrize("text", ["tp = 2", 'checkpoint = ""'])
def test_recipe_without_a_checkpoint_is_refused(tmp_path: Path, text: str) -> None:
    assert "checkpoint is" in refusal(tmp_path, text).message


def test_bad_toml_is_refused_with_the_line(tmp_path: Path) -> None:
    assert "line 2" in refusal(tmp_path, 'checkpoint = "a/b"\ntp = = 2').message


def test_recipe_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"binary\.toml is not UTF-8"):
        load_recipe(path)


def test_missing_recipe_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.toml cannot be read: No such file"):
        load_recipe(tmp_path / "absent.toml")


@pytest.mark.parametrize("name", ["./model", "model.gguf", "weights/model.gguf", "org/name"])
def test_relative_checkpoint_stands_beside_the_recipe(tmp_path: Path, name: str) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    recipe = load_recipe(write(tmp_path, f'checkpoint = "{name}"'))
    assert recipe.checkpoint == str((tmp_path / name).resolve())


def test_missing_folder_beside_a_recipe_cannot_be_taken_for_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    recipe = load_recipe(write(Path("recipes"), 'checkpoint = "./model"'))
    assert recipe.checkpoint == str(tmp_path / "recipes" / "model")


@pytest.mark.parametrize(
    "name", ["package:pack/a.gguf", "/somewhere/model", "org/name", "org/name@v1"]
)
def test_package_absolute_path_and_hub_id_stay_as_they_are(tmp_path: Path, name: str) -> None:
    assert load_recipe(write(tmp_path, f'checkpoint = "{name}"')).checkpoint == name


def test_flags_win_over_the_recipe_and_none_means_not_given() -> None:
    recipe = Recipe(checkpoint="a/b", tp=2, batch_size=4)
    merged = merge_flags(recipe, tp=3, batch_size=None, prefill_buckets=(16,))
    assert merged == Recipe(checkpoint="a/b", tp=3, batch_size=4, prefill_buckets=(16,))


def test_flag_that_contradicts_the_recipe_is_a_usage_error() -> None:
    recipe = Recipe(checkpoint="a/b", max_length=512, prefill_buckets=(32, 128))
    with pytest.raises(UsageError, match="prefill_buckets holds 128, more than max_length 64"):
        merge_flags(recipe, max_length=64)


def test_to_dict_holds_only_json_types() -> None:
    plain = Recipe(checkpoint="a/b", prefill_buckets=(32,), out=Path("x")).to_dict()
    assert plain["prefill_buckets"] == [32]
    assert plain["decode_buckets"] == []
    assert plain["out"] == "x"
    assert plain["max_length"] is None


def test_dtype_choices_are_auto_and_the_compute_dtypes() -> None:
    assert set(DTYPE_CHOICES) == {"auto", *COMPUTE_DTYPES}


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*/*.toml")), ids=lambda path: path.stem)
def test_shipped_recipe_loads_and_is_named_for_what_it_builds(path: Path) -> None:
    recipes = [cell.recipe for cell in load_cells(path)]
    (target,) = {recipe.target for recipe in recipes}
    what = "matrix" if has_builds(path) else f"tp{recipes[0].tp}"
    assert path.stem.endswith(f"_{target}_{what}")
    assert f"({path.relative_to(RECIPES)})" in (RECIPES / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        'checkpoint = "a\\u0000b"',
        'checkpoint = "a/b"\nout = "a\\u0000b"',
        'checkpoint = "a/b"\nadapter = "a\\u0000b"',
        'checkpoint = "a/b"\ntp = ' + "9" * 5000,
        'checkpoint = "a/b"\ntp = 99999999999',
        "x = " + "[" * 100_000,
        "a." * 600_000 + "a = 1",
    ],
    ids=["nul", "nul-out", "nul-adapter", "digits", "too-large", "deep", "huge"],
)
def test_recipe_made_to_harm_is_refused(tmp_path: Path, text: str) -> None:
    assert len(refusal(tmp_path, text).message) < 1000


def test_pipe_in_place_of_a_recipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.toml")
    with pytest.raises(InputError, match="is not a file"):
        load_recipe(tmp_path / "r.toml")
