"""Orders, ratios, rows and how they are shown."""

import json
import math
from io import StringIO

import pytest
from rich.console import Console

from tests.benchmarks.peers.process import OWN
from tests.benchmarks.peers.processes import Outcome
from tests.benchmarks.peers.rounds import Cell, Rounds, shuffled_orders
from tests.benchmarks.peers.summary import Row, ratio, same_tokens, summarize
from tests.benchmarks.peers.table import COLUMNS, cells, markdown, rich_table, titled

OURS, THEIRS = (Cell(engine=name, dtype="f32", threads=2) for name in ("neuronc", "theirs"))
BROKEN = Cell(engine="broken", dtype="f32", threads=2)
BF16 = Cell(engine="neuronc", dtype="bf16", threads=2)


def outcome(ttft: float, itl: float, tokens: tuple[int, ...] = (1, 2, 3)) -> Outcome:
    result = {
        "ttft_ms": ttft + 1,
        "itl_ms": [itl, itl, 1000.0],
        "tokens": list(tokens),
        "rss_bytes": 5e6,
        "load_s": 0.5,
        "dtypes": {"weights": "f32", "kv": "u8"},
    }
    return Outcome(result=result, others=0.25)


def rows() -> list[Row]:
    rounds: Rounds = [
        {
            THEIRS: outcome(scale * 19, scale * 20, (1, 9, 3)),
            OURS: outcome(scale * 9, scale * 10),
            BROKEN: Outcome(result=None, reason="exit status 1"),
            BF16: outcome(scale, scale),
        }
        for scale in (1, 2, 3)
    ]
    sizes = {"f32": 8_000_000, "bf16": 4_000_000}
    return summarize(
        rounds, ours="neuronc", reference=(1, 2, 3), weight_bytes=sizes, read_bytes_per_s=1e9
    )


def test_every_round_has_everything_in_some_order() -> None:
    orders = shuffled_orders(range(6), 20, seed=3)
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert len({tuple(order) for order in orders}) > 10
    assert {order[0] for order in orders} == set(range(6))
    assert orders == shuffled_orders(range(6), 20, seed=3)
    assert orders != shuffled_orders(range(6), 20, seed=4)


def test_ratio_of_rounds_that_agree_has_no_width() -> None:
    found = ratio([(20.0, 10.0), (4.0, 2.0), (6.0, 3.0)])
    assert found is not None
    assert (found.low, found.middle, found.high) == pytest.approx((2.0, 2.0, 2.0))


def test_ratio_interval_is_student_t_of_logarithms() -> None:
    found = ratio([(1.0, 1.0), (math.e, 1.0), (math.e**2, 1.0)])
    assert found is not None
    half = 4.302653 * 1.0 / math.sqrt(3)  # t of 0.975 at 2 degrees of freedom, deviation 1
    assert found.middle == pytest.approx(math.e)
    assert math.log(found.low) == pytest.approx(1 - half)
    assert math.log(found.high) == pytest.approx(1 + half)


def test_one_round_has_no_interval() -> None:
    assert ratio([(20.0, 10.0)]) is None


@pytest.mark.parametrize(
    ("tokens", "same"), [((1, 2, 3), 3), ((1, 2, 4), 2), ((2, 2, 3), 0), ((1, 2), 2)]
)
def test_same_tokens_end_at_the_first_other(tokens: tuple[int, ...], same: int) -> None:
    assert same_tokens(tokens, (1, 2, 3)) == same


def test_rows() -> None:
    ours, theirs, broken, bf16 = rows()
    assert [r.cell for r in (ours, theirs, broken, bf16)] == [OURS, THEIRS, BROKEN, BF16]
    assert (ours.times["itl_ms"].low, ours.times["itl_ms"].middle) == (10, 20)
    assert (theirs.times["ttft_ms"].low, theirs.times["ttft_ms"].high) == (20, 58)
    assert theirs.ratios["itl_ms"].middle == pytest.approx(2)
    assert ours.mbu == pytest.approx(8 / 20)
    assert bf16.mbu == pytest.approx(4 / 2)
    assert (ours.same, theirs.same) == (3, 1)
    assert (broken.rounds, broken.reasons) == (0, ("exit status 1",) * 3)
    assert not broken.times
    assert not broken.ratios


def test_a_lost_round_is_left_out_of_the_pairs() -> None:
    failed = Outcome(result=None, reason="gone")
    rounds: Rounds = [
        {OURS: outcome(1, 1), THEIRS: outcome(3, 3)},
        {OURS: failed, THEIRS: outcome(90, 90)},
        {OURS: outcome(2, 2), THEIRS: outcome(6, 6)},
    ]
    ours, theirs = summarize(
        rounds, ours="neuronc", reference=(), weight_bytes={"f32": 1}, read_bytes_per_s=1e9
    )
    assert theirs.ratios["itl_ms"].middle == pytest.approx(3)
    assert (ours.rounds, theirs.rounds) == (2, 3)


def test_tables_show_every_row() -> None:
    title, _, *text = markdown("title", rows(), "neuronc").splitlines()
    assert title == "title:"
    assert len(text) == 2 + 4
    assert {line.count("|") for line in text} == {len(COLUMNS) + 1}
    assert "20.0 (10.0-30.0)" in text[2]
    assert "2.00x (2.00-2.00)" in text[3]
    assert "failed" in text[4]
    screen = Console(width=200, file=StringIO())
    screen.print(rich_table("title", rows(), "neuronc"))
    drawn = screen.file.getvalue()  # type: ignore[attr-defined]
    assert all(word in drawn for word in ("theirs", "broken", "failed", "bf16", "25 %"))


def test_what_engines_do_of_their_own_has_a_table_of_its_own() -> None:
    own = [Cell(engine=name, dtype=OWN, threads=0) for name in ("neuronc", "theirs")]
    rounds: Rounds = [{own[1]: outcome(3, 4), OURS: outcome(1, 1), own[0]: outcome(1, 1)}]
    found = summarize(
        rounds, ours="neuronc", reference=(), weight_bytes={"f32": 1}, read_bytes_per_s=1e9
    )
    (same, headline), (of_their_own, rest) = titled(found)
    assert same != of_their_own
    assert [row.cell for row in headline] == [OURS]
    assert [row.cell for row in rest] == own
    assert cells(rest[1], "neuronc")[:6] == [
        "theirs",
        "weights f32, kv u8",
        "own",
        "4.0 (4.0-4.0)",
        "4.0 (4.0-4.0)",
        "",
    ]
    assert [title for title, _ in titled(headline)] == [same]


def test_rows_are_json() -> None:
    found = json.loads(json.dumps([row.to_dict() for row in rows()]))
    assert found[1]["cell"]["engine"] == "theirs"
    assert found[1]["times"]["itl_ms"]["low"] == 20
