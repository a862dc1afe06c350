from pathlib import Path

import pytest

from neuronc.errors import InputError, NeuroncError, UsageError
from neuronc.matrix.cells import Cell, has_builds, load_cells
from neuronc.matrix.shard import Shard, parse_shard, select
from neuronc.recipe_file import load_recipe

ROOT = Path(__file__).parents[3]
TOP = 'checkpoint = "./model"\nmax_length = 64\nprefill_buckets = [8]\nout = "demo/{name}"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "some.toml"
    path.write_text(text, encoding="utf-8")
    return path


def cells_of(folder: Path, text: str, **flags: object) -> dict[str, Cell]:
    return {cell.name: cell for cell in load_cells(write(folder, text), flags)}


def refusal(
    folder: Path, text: str, kind: type[NeuroncError] = InputError, **flags: object
) -> NeuroncError:
    with pytest.raises(kind) as caught:
        cells_of(folder, text, **flags)
    assert "some.toml" in caught.value.message
    assert caught.value.hint
    return caught.value


def test_the_example_of_the_module_is_what_it_says(tmp_path: Path) -> None:
    from neuronc.matrix import cells

    assert cells.__doc__
    shown = cells.__doc__.partition("::\n")[2].partition("gives")[0]
    found = cells_of(tmp_path, "\n".join(line.strip() for line in shown.splitlines()))
    for name in found:
        assert f"``{name}``" in cells.__doc__
    assert list(found) == [
        "small",
        "served-tp2-batch_size1",
        "served-tp2-batch_size8",
        "served-tp4-batch_size1",
        "served-tp4-batch_size8",
    ]
    assert found["small"].recipe.max_length == 512
    assert found["served-tp4-batch_size1"].recipe.dtype == "bf16"


def test_cell_inherits_defaults_and_replaces_them_whole(tmp_path: Path) -> None:
    text = (
        TOP + '[[build]]\nname = "a"\n[[build]]\nname = "b"\nprefill_buckets = [16, 32]\ntp = 2\n'
    )
    found = cells_of(tmp_path, text)
    assert (found["a"].recipe.prefill_buckets, found["a"].recipe.tp) == ((8,), 1)
    assert (found["b"].recipe.prefill_buckets, found["b"].recipe.tp) == ((16, 32), 2)
    assert found["b"].recipe.checkpoint == str(tmp_path / "model")
    assert found["b"].source == "./model"
    assert found["b"].out == found["b"].recipe.out == Path("demo/b")


@pytest.mark.parametrize(
    ("build", "names"),
    [
        ("tp = 2", ["tp2"]),
        ('target = "inf2"\nlnc = 1', ["inf2-lnc1"]),
        ("normalize = false", ["no_normalize"]),
        ('checkpoint = "org/Some-Model"', ["Some_Model"]),
        ("matrix = { prefill_buckets = [[8], [8, 16]] }", ["prefill_buckets8", "prefill_buckets8_16"]),
        ('matrix = { dtype = ["f32", "bf16"], tp = [2] }', ["f32-tp2", "bf16-tp2"]),
        ('out = "elsewhere"\ntp = 3', ["tp3"]),
    ],
)  # fmt: skip
def test_cell_without_a_name_is_named_after_its_own_keys(
    tmp_path: Path, build: str, names: list[str]
) -> None:
    assert list(cells_of(tmp_path, f"{TOP}[[build]]\n{build}\n")) == names


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        ("", "it has no name"),
        ("bacth_size = 2", "unknown key 'bacth_size'"),
        ("matrix = { bacth_size = [2] }", "number 1, matrix: unknown key 'bacth_size'"),
        ('name = "a"\nmatrix = { tp = 2 }', "tp is 2; expected a list"),
        ('name = "a"\nmatrix = { tp = [] }', "tp is []; expected a list"),
        ('name = "a"\nmatrix = { tp = [1, "2"] }', "tp: expected int, found str"),
        ('name = "a"\nmatrix = { prefill_buckets = [8, 16] }', "expected list of int, found int"),
        ('name = "a"\nmatrix = [1]', "matrix: expected dict, found list"),
        ('name = "a"\ntp = 1\nmatrix = { tp = [1, 2] }', "tp is set beside it as well"),
        ('name = "a"\nmatrix = { out = ["x", "y"] }', "out is the place of one artifact"),
        ('name = "a"\nmatrix = { tp = [2, 2] }', "a second build is named 'a-tp2'"),
        ("name = 3", "name: expected str, found int"),
        ('name = "../a"', "name is '../a'"),
        ('name = ""', "it has no name"),
        ('name = "a"\nmax_length = 4', "build 'a': prefill_buckets holds 8, more than max_length"),
        ('name = "a"\nout = "demo/{tpp}"', "there is no placeholder {tpp}"),
        ('name = "a"\nout = "demo/{tp.real}"', "there is no placeholder {tp.real}"),
        ('name = "a"\nout = "demo/{tp!r}"', "there is no placeholder {tp}"),
        ('name = "a"\nout = "demo/{quantize}"', "the build sets no quantize"),
        ('name = "a"\nout = "demo/{"', "out is 'demo/{'"),
    ],
)
def test_build_that_means_nothing_is_refused(tmp_path: Path, build: str, expected: str) -> None:
    assert expected in refusal(tmp_path, f"{TOP}[[build]]\n{build}\n").message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('name = "x"\n[[build]]\ntp = 1', "unknown key 'name'"),
        ("matrix = { tp = [1] }\n[[build]]\ntp = 1", "unknown key 'matrix'"),
        ("[build]\ntp = 1", "build: expected list, found dict"),
        ("build = []", "build is []; expected tables"),
        ("build = [1]", "build is [1]; expected tables"),
        ("[[build]]\ntp = 1\n[[build]]\ntp = 1", "a second build is named 'tp1'"),
        (f"[[build]]\nname = 'a'\nmatrix = {{ tp = {[1] * 1001} }}", "more than 1000"),
    ],
)  # fmt: skip
def test_file_that_means_nothing_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(tmp_path, f'checkpoint = "a/b"\n{text}\n').message


def test_unknown_key_of_a_build_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    assert refusal(tmp_path, f"{TOP}[[build]]\nmatirx = 1").hint == "did you mean 'matrix'?"


@pytest.mark.parametrize(
    ("first", "second"),
    [("demo/x", "demo/x"), ("demo/x", "./demo/../demo/x"), ("demo", "demo/x"), ("demo/x", "demo")],
)
def test_builds_that_write_into_each_other_are_refused(
    tmp_path: Path, first: str, second: str
) -> None:
    builds = f'[[build]]\nname = "a"\nout = "{first}"\n[[build]]\nname = "b"\nout = "{second}"\n'
    message = refusal(tmp_path, TOP + builds).message
    assert "'a'" in message
    assert "'b'" in message


def test_link_to_anothers_output_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("real").mkdir()
    Path("link").symlink_to("real")
    builds = '[[build]]\nname = "a"\nout = "real"\n[[build]]\nname = "b"\nout = "link"\n'
    assert "has the output folder of" in refusal(tmp_path, TOP + builds).message


def test_output_over_the_checkpoint_of_another_build_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    text = f'{TOP}[[build]]\nname = "a"\n[[build]]\nname = "b"\ncheckpoint = "org/other"\n'
    text += f'out = "{tmp_path}"\n'
    with pytest.raises(UsageError, match="holds the checkpoint"):
        cells_of(tmp_path, text)


def test_flag_replaces_a_default_but_not_what_a_build_says(tmp_path: Path) -> None:
    text = f'{TOP}[[build]]\nname = "a"\n[[build]]\nname = "b"\nmatrix = {{ tp = [1, 2] }}\n'
    found = cells_of(tmp_path, text, batch_size=4, checkpoint="org/other", tp=None)
    assert {cell.recipe.batch_size for cell in found.values()} == {4}
    assert {(c.source, c.recipe.checkpoint) for c in found.values()} == {("org/other",) * 2}
    assert "--tp given, and build 'b-tp1'" in refusal(tmp_path, text, UsageError, tp=2).message


def test_impossible_flag_names_the_build(tmp_path: Path) -> None:
    error = refusal(tmp_path, f'{TOP}[[build]]\nname = "a"\n', UsageError, max_length=4)
    assert error.message.startswith("build 'a' of")


@pytest.mark.parametrize(
    ("out", "expected"), [("x", "x/tp2"), ("x/{tp}-{dtype}", "x/2-auto"), ("{name}", "tp2")]
)
def test_out_flag_holds_the_builds_or_has_placeholders(
    tmp_path: Path, out: str, expected: str
) -> None:
    (cell,) = cells_of(tmp_path, f"{TOP}[[build]]\ntp = 2\n", out=Path(out)).values()
    assert cell.out == Path(expected)


def test_builds_have_a_place_of_their_own_without_out(tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path, 'checkpoint = "a/b"\n[[build]]\ntp = 2\n').values()
    assert cell.out == Path("artifacts/tp2")


def test_file_without_builds_is_one_cell_named_as_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'checkpoint = "./m"\nout = "x/{name}"\n')
    (cell,) = load_cells(path)
    assert (cell.name, cell.out, cell.recipe) == ("some", Path("x/{name}"), load_recipe(path))
    assert not has_builds(path)


def test_recipe_with_builds_is_no_single_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, f"{TOP}[[build]]\ntp = 1\n")
    assert has_builds(path)
    with pytest.raises(InputError, match="unknown key 'build'"):
        load_recipe(path)


def many(folder: Path) -> tuple[Cell, ...]:
    builds = "".join(f'[[build]]\nname = "n{number}"\n' for number in (5, 3, 1, 4, 0, 2, 6))
    return load_cells(write(folder, TOP + builds))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 9])
def test_shards_are_every_build_once_and_even(tmp_path: Path, count: int) -> None:
    cells = many(tmp_path)
    parts = [select(cells, shard=Shard(number=n + 1, count=count)) for n in range(count)]
    names = [cell.name for part in parts for cell in part]
    assert sorted(names) == [f"n{number}" for number in range(7)]
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1
    assert [cell.name for cell in select(cells, shard=Shard(number=1, count=7))] == ["n0"]


def test_shards_do_not_depend_on_the_order_in_the_file(tmp_path: Path) -> None:
    cells = many(tmp_path)
    shard = Shard(number=2, count=3)
    there, reversed_ = (select(part, shard=shard) for part in (cells, cells[::-1]))
    assert {cell.name for cell in there} == {cell.name for cell in reversed_} == {"n1", "n4"}
    assert [cell.name for cell in there] == ["n1", "n4"]


def test_only_chooses_in_the_order_of_the_file_and_is_dealt_out_after(tmp_path: Path) -> None:
    cells = many(tmp_path)
    assert [cell.name for cell in select(cells, only=["n2", "n5"])] == ["n5", "n2"]
    (cell,) = select(cells, only=["n2", "n5"], shard=Shard(number=2, count=2))
    assert cell.name == "n5"


def test_only_an_unknown_build_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        select(many(tmp_path), only=["n1", "n22"])
    assert caught.value.hint == "did you mean 'n2'?"


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "1/0", "-1/2", "1/2/3", "a/b", "1 /2"])
def test_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard is"):
        parse_shard(text)


def test_shard_is_read() -> None:
    assert parse_shard("2/8") == Shard(number=2, count=8)
    assert str(Shard(number=2, count=8)) == "2/8"
