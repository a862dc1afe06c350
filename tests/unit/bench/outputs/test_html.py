"""The page as text: what it says, what it leaves out, and that nothing in it can be markup."""

import builtins
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from neuronc.bench.outputs.html import panels
from neuronc.bench.outputs.html.cards import card_groups
from neuronc.bench.outputs.html.compare_plot import (
    Ratio,
    differences,
    log_ratios,
    outcome,
)
from neuronc.bench.outputs.html.figure import Absent, Figure
from neuronc.bench.outputs.html.load_plots import load_plot, tradeoff_plot
from neuronc.bench.outputs.html.markup import flat
from neuronc.bench.outputs.html.page import POLICY, render_html, write_html
from neuronc.bench.outputs.html.percentile_plot import nines, percentile_plots
from neuronc.bench.outputs.html.predicted_plot import predicted_plot
from neuronc.bench.outputs.html.slot_plot import STALLED, slot_bars, slot_plot
from neuronc.bench.outputs.html.step_plots import histograms, roofline_plot
from neuronc.bench.outputs.reading import short
from neuronc.errors import ToolchainError
from tests.bench_examples.documents import EXAMPLES, decoder, example
from tests.bench_examples.hostile import HOSTILE, hostile

LIBRARY = "neuronc.bench.outputs.html.page.plotly_js"


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of kilobytes: the library itself is not what these tests read."""
    monkeypatch.setattr(LIBRARY, lambda: "/* plotly */")


class Page(HTMLParser):
    """Elements with their attributes, and the text a reader sees."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def figures(source: str) -> list[dict[str, Any]]:
    found = re.search(r"id=figures>(.*?)</script>", source, re.DOTALL)
    assert found
    made: list[dict[str, Any]] = json.loads(found[1])
    return made


@pytest.mark.usefixtures("no_library")
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_plot_has_a_place_a_title_and_a_sentence(name: str) -> None:
    source = render_html(example(name))
    places = [a["id"] for t, a in Page(source).elements if t == "div" and a.get("class") == "plot"]
    assert places == [figure["id"] for figure in figures(source)]
    assert len(set(places)) == len(places)
    assert source.count("<figure ") == source.count("<figcaption>") == len(places)


@pytest.mark.usefixtures("no_library")
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_page_asks_for_nothing_from_outside(name: str) -> None:
    page = Page(render_html(example(name), other=example("decoder")))
    asked = [(t, a) for t, a in page.elements if {"src", "srcset", "data", "action"} & a.keys()]
    linked = [a["href"] for _, a in page.elements if "href" in a]
    assert asked == []
    assert all(link is not None and link.startswith("#") for link in linked)
    assert not {"link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.elements}
    policy = [a["content"] for _, a in page.elements if a.get("http-equiv")]
    assert policy == [POLICY]
    assert "http" not in POLICY


@pytest.mark.usefixtures("no_library")
def test_text_of_the_document_is_inert() -> None:
    document = hostile(example("serve"))
    document["caveats"] = document["noise"]["findings"] = [HOSTILE]
    document["definitions"] = {HOSTILE: HOSTILE}
    document["environment"][HOSTILE] = {HOSTILE: HOSTILE}
    document["status"], document["noise"]["noisy"] = "noisy", True
    page = Page(render_html(document, other=example("decoder")))
    assert "img" not in {tag for tag, _ in page.elements}
    assert not any("onerror" in a for _, a in page.elements)
    assert page.text.count(HOSTILE) > 10
    in_plots = json.dumps(figures(render_html(document)))
    assert "<img" not in in_plots  # plotly would read it as markup of its own
    assert "&lt;img" in in_plots


@pytest.mark.usefixtures("no_library")
def test_an_invalid_run_shows_no_number_and_why() -> None:
    document = example("invalid")
    source = render_html(document, other=example("decoder"))
    value = document["modes"]["throughput"]["estimates"]["output_tokens_per_s"]["value"]
    text = Page(source).text
    assert "INVALID RUN, no number of it may be quoted" in text
    assert "token 17 is 4021" in text
    assert "class=card" not in source
    assert short(value) not in text
    assert [figure["id"] for figure in figures(source)] == ["slots"]
    assert "One of the two runs is invalid" in text


@pytest.mark.usefixtures("no_library")
def test_a_noisy_run_is_marked_in_title_banner_and_every_card() -> None:
    source = render_html(example("noisy"))
    assert "<title>NOISY RUN, " in source
    assert "5,210 involuntary switches" in Page(source).text
    assert source.count("<div class=card>") == source.count("<span class=mark>noisy</span>") > 0


def test_cards_have_their_interval_or_why_there_is_none() -> None:
    (group,) = card_groups(example("few"))
    by_label = {card.label: card for card in group.cards}
    assert by_label["per token (TPOT), median"].number == "not defined"
    assert by_label["per token (TPOT), median"].interval == "no interval: undefined in every run"
    first, _ = card_groups(example("decoder"))
    assert all(card.interval.startswith("95 %: ") for card in first.cards[:3])


def test_a_sweep_leads_with_the_largest_load_that_met_the_objectives() -> None:
    document = example("sweep")
    (group,) = card_groups(document)
    best = document["modes"]["sweep"]["best"]
    assert group.cards[0].number == f"{best['at']:g}"
    assert group.cards[1].label == "knee"


def test_stalls_and_host_gaps_have_a_card() -> None:
    document = example("serve")
    (group,) = card_groups(document)
    by_label = {card.label: card for card in group.cards}
    stalls = document["modes"]["serve"]["stalls"]
    stalled = by_label["stalled by prefills"]
    assert stalled.number == short(100 * stalls["share_of_itl_time"])
    assert stalled.interval.startswith(f"{stalls['count']:,} gaps")
    assert by_label["host gap, median"].unit == "ms"
    assert "Each alone: TTFT" in by_label["objectives met"].says


def test_nines_count_nines() -> None:
    assert [round(nines(q), 6) for q in (0.0, 0.9, 0.99, 0.999)] == [0, 1, 2, 3]


def test_a_curve_is_dotted_from_where_no_interval_is_known() -> None:
    document = example("decoder")
    plot = percentile_plots(document)[0]
    assert isinstance(plot, Figure)
    known = document["modes"]["latency"]["pooled"]["ttft_ms"]["percentiles"]
    assert known["p95"]["low"] is not None
    assert known["p99"]["low"] is None
    solid, dotted, marks = plot.traces[:3]
    assert solid["line"]["dash"] == "solid"
    assert max(solid["x"]) <= nines(0.95) <= min(dotted["x"]) + 1e-9
    assert marks["marker"]["symbol"][-1] == "circle-open"
    assert "no interval: 120 samples" in marks["hovertext"][-1]


def test_what_the_document_lacks_is_said_instead_of_drawn() -> None:
    document = example("few")
    assert isinstance(load_plot(document), Absent)
    assert isinstance(slot_plot(document), Absent)
    assert isinstance(roofline_plot(document), Absent)
    trade = tradeoff_plot(document)
    assert isinstance(trade, Figure)
    assert "yaxis2" not in trade.layout  # TPOT is undefined, so it has no empty panel
    steps = example("decoder")
    steps["modes"] = {"steps": steps["modes"]["steps"]}
    for made in (*percentile_plots(steps), *histograms(steps), tradeoff_plot(steps)):
        assert isinstance(made, Absent)
        assert made.sentence.endswith(".")


def test_the_slo_is_a_region_and_knee_and_best_are_lines() -> None:
    plot = load_plot(example("sweep"))
    assert isinstance(plot, Figure)
    kinds = [shape["type"] for shape in plot.layout["shapes"]]
    assert kinds.count("rect") == 2
    assert kinds.count("line") == 4
    said = [note["text"].strip() for note in plot.layout["annotations"]]
    assert said == ["objective 250 ms", "objective 25 ms", "best: 2", "knee: 2.5"]


def step(kind: str, slots: list[int], ids: list[str], begin: int, end: int) -> dict[str, Any]:
    phase, bucket = kind.split("/")
    made = {"class": kind, "phase": phase, "bucket": int(bucket), "slots": slots}
    return made | {"request_ids": ids, "num_tokens": 20, "start_ns": begin, "end_ns": end}


def test_a_prefill_stalls_whoever_has_a_slot_and_is_named() -> None:
    steps = [
        step("prefill/32", [0], ["a"], 0, 10),
        step("decode/64", [0], ["a"], 10, 12),
        step("decode/64", [0], ["a"], 12, 14),
        step("prefill/32", [1], ["b"], 14, 24),
        step("decode/64", [0, 1], ["a", "b"], 24, 26),
        step("prefill/32", [2], ["c"], 26, 36),
    ]
    bars = list(slot_bars(steps))
    stalls = [(b.slot, b.request, b.begin_ns, b.end_ns) for b in bars if b.kind == STALLED]
    assert stalls == [(0, "a", 14, 24)]  # at 26 a and b had their last token
    assert next(b.note for b in bars if b.kind == STALLED) == "for the prefill/32 of b"
    runs = [(b.slot, b.begin_ns, b.end_ns, b.steps) for b in bars if b.kind == "decode/64"]
    assert sorted(runs) == [(0, 10, 14, 2), (0, 24, 26, 1), (1, 24, 26, 1)]
    assert next(b.note for b in bars if b.kind == "prefill/32") == "20 tokens and 12 of padding"


def test_predicted_time_is_a_bar_and_the_measured_median_a_point() -> None:
    document = example("decoder")
    plot = predicted_plot(document)
    assert isinstance(plot, Figure)
    bars, points = plot.traces
    cells = list(reversed(document["modes"]["steps"]["cells"]))
    assert bars["x"] == [cell["floor_ms"] for cell in cells]
    assert points["x"] == [cell["ms"]["percentiles"]["p50"]["value"] for cell in cells]
    assert f"{points['x'][0] / bars['x'][0]:.2f} times the prediction" in bars["hovertext"][0]
    for cell in document["modes"]["steps"]["cells"]:
        cell["floor_ms"] = None
    assert isinstance(predicted_plot(document), Absent)
    assert isinstance(predicted_plot(example("serve")), Absent)


def test_points_of_the_roofline_are_executed_work_over_time() -> None:
    document = example("decoder")
    plot = roofline_plot(document)
    assert isinstance(plot, Figure)
    roof, first = plot.traces[:2]
    cell = document["modes"]["steps"]["cells"][0]
    assert roof["y"][1] == document["machine"]["flops_per_s"]["f32"] / 1e9
    assert first["x"] == [cell["flops"] / cell["bytes"]]
    assert first["y"] == pytest.approx([cell["flops"] / (cell["ms"]["mean"] / 1e3) / 1e9])
    document["machine"] = None
    unmeasured = roofline_plot(document)
    assert isinstance(unmeasured, Figure)
    assert "no roof" in unmeasured.sentence
    assert len(unmeasured.traces) == len(plot.traces) - 1


def test_a_slowdown_is_found_and_an_equal_run_is_not() -> None:
    slow, same = decoder(noise_seed=1, slow_down=1.1), decoder(noise_seed=1)
    by_name = {ratio.name: ratio for ratio in log_ratios(example("decoder"), slow)}
    tpot = by_name["latency: TPOT p50"]
    assert outcome(tpot) == "better"
    assert tpot.ratio == pytest.approx(1 / 1.1, rel=0.02)
    assert outcome(by_name["latency: output tokens/s"]) == "better"
    equal = {ratio.name: ratio for ratio in log_ratios(example("decoder"), same)}
    assert outcome(equal["latency: TPOT p50"]) == "no clear change"


def test_one_repeat_has_a_ratio_but_no_interval() -> None:
    made = {ratio.name: ratio for ratio in log_ratios(example("few"), example("few"))}
    first = made["latency: TTFT p50"]
    assert (first.ratio, first.low) == (1, None)
    assert "two repeats" in first.reason


@pytest.mark.usefixtures("no_library")
def test_ratios_may_come_from_elsewhere() -> None:
    ratio = Ratio(name="mine", ratio=1.2, low=1.1, high=1.3, more_is_better=False)
    source = render_html(example("decoder"), other=example("decoder"), ratios=lambda *_: [ratio])
    (forest,) = (figure for figure in figures(source) if figure["id"] == "forest")
    assert [trace["name"] for trace in forest["data"]] == ["worse"]
    assert forest["layout"]["yaxis"]["ticktext"] == ["mine"]


def test_settings_that_differ_are_listed() -> None:
    other = example("decoder")
    other["workload"]["seed"] = 1
    other["fingerprint"]["quantize"] = "int8"
    assert differences(example("decoder"), other) == [
        ("fingerprint.quantize", "not known", "int8"),
        ("workload.seed", "0", "1"),
    ]


def test_without_plotly_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without_plotly(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("plotly"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.startswith("plotly")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_plotly)
    with pytest.raises(ToolchainError, match="plotly") as caught:
        write_html(example("few"), tmp_path / "page.html")
    assert caught.value.hint == "pip install 'neuronc[html]'"
    assert list(tmp_path.iterdir()) == []


def test_the_library_is_in_the_page_once(tmp_path: Path) -> None:
    write_html(example("few"), tmp_path / "page.html")
    source = (tmp_path / "page.html").read_text("utf-8")
    assert source.count("plotly.js v") == 1
    assert 4e6 < len(source) < 8e6


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.4794, "0.4794"),
        (66540.0, "66,540"),
        (3.352e10, "33.52 G"),
        (1e6, "1 M"),
        (999999.0, "999,999"),
        (2.5e12, "2.5 T"),
        (1e20, "1e+20"),
    ],
)
def test_numbers_of_facts_have_no_power_of_ten_where_a_letter_says_it(
    value: float, text: str
) -> None:
    assert flat({"a": value}) == {"a": text}


def test_a_quiet_machine_with_findings_is_not_called_quiet_without_them() -> None:
    document = example("decoder")
    assert "The machine was quiet." in panels.trust(document)
    document["noise"]["findings"] = ["threads compete"]
    told = panels.trust(document)
    assert "To be noted:" in told
    assert "The machine was quiet." not in told
    assert "of them, compared whole" in told
