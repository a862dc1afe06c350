"""The page in headless Chromium: it draws every plot, asks the network for nothing, fits a phone."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from neuronc.bench.outputs.html.page import render_html, write_html
from tests.bench_examples.documents import decoder, example
from tests.bench_examples.hostile import HOSTILE, hostile

NAMES = ("chromium", "chromium-browser", "google-chrome")
# The second keeps the browser's own services from the network; they are not the page's.
FLAGS = (
    "--headless",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--enable-logging=stderr",
    "--virtual-time-budget=30000",  # ends as soon as the page is idle
)
DESKTOP, PHONE = (1280, 900), (390, 844)
EXPECTED = {
    "decoder": {"percentiles-0", "percentiles-1", "tradeoff", "slots", "roofline", "forest"}
    | {"predicted"}
    | {f"steps-{index}" for index in range(5)},
    "serve": {"percentiles-0", "tradeoff", "slots"} | {f"steps-{index}" for index in range(5)},
    "sweep": {"percentiles-0", "tradeoff", "load", "slots"}
    | {f"steps-{index}" for index in range(5)},
    "few": {"percentiles-0", "tradeoff", "steps-0"},
    "invalid": {"slots"},
}


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What the browser left behind.

    Attributes:
        seen: What the page's own script noted about itself.
        console: Lines that reached the console.
    """

    dom: str
    seen: dict[str, str]
    console: list[str]


@pytest.fixture(scope="session")
def browser() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = f"no browser: none of {', '.join(NAMES)} is on PATH"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def visit(browser: str, page: Path, size: tuple[int, int] = DESKTOP, *more: str) -> Visit:
    profile = page.with_suffix(".profile")
    window = f"--window-size={size[0]},{size[1]}"
    command = [browser, *FLAGS, window, f"--user-data-dir={profile}", *more, "--dump-dom"]
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    root = re.search(r"<html[^>]*>", done.stdout)
    assert root
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Visit(
        dom=done.stdout, seen=dict(re.findall(r'data-([\w-]+)="(.*?)"', root[0])), console=console
    )


def drawn(dom: str) -> set[str]:
    """Ids of plots that hold a drawing."""
    places = re.split(r'<div class="plot[^"]*" id="', dom)[1:]
    return {place.partition('"')[0] for place in places if "main-svg" in place}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_plot_is_drawn_without_an_error_or_a_request(
    browser: str, name: str, tmp_path: Path
) -> None:
    other = decoder(noise_seed=1, slow_down=1.04) if name == "decoder" else None
    write_html(example(name), tmp_path / "page.html", other=other)
    found = visit(browser, tmp_path / "page.html")
    assert found.console == []
    assert found.seen["errors"] == ""
    assert found.seen["refused"] == ""
    assert found.seen["requests"] == "0"
    assert found.seen["plots-drawn"] == found.seen["plots-expected"] == str(len(EXPECTED[name]))
    assert drawn(found.dom) == EXPECTED[name]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_is_wider_than_the_window(
    browser: str, size: tuple[int, int], tmp_path: Path
) -> None:
    write_html(example("decoder"), tmp_path / "page.html", other=decoder(noise_seed=1))
    shot = tmp_path / "shot.png"
    found = visit(browser, tmp_path / "page.html", size, f"--screenshot={shot}")
    assert found.seen["overflow"] == "0"
    assert shot.read_bytes().startswith(b"\x89PNG")


def test_a_hostile_document_runs_nothing(browser: str, tmp_path: Path) -> None:
    document = hostile(example("decoder"))
    document["caveats"] = [HOSTILE]
    write_html(document, tmp_path / "page.html")
    found = visit(browser, tmp_path / "page.html")
    assert found.console == []
    assert found.seen["refused"] == ""
    assert "<img src=x" not in found.dom  # a browser writes text escaped, elements as they are
    assert "<title>1</title>" not in found.dom
    assert found.seen["plots-drawn"] == found.seen["plots-expected"]


def test_the_watch_sees_what_it_is_there_for(browser: str, tmp_path: Path) -> None:
    """A page that does ask the network and does log an error is caught by the same means."""
    source = render_html(example("few"))
    bad = "<img src='http://example.invalid/x.png'><script>console.error('seen')</script></body>"
    (tmp_path / "page.html").write_text(source.replace("</body>", bad), "utf-8")
    found = visit(browser, tmp_path / "page.html")
    assert "example.invalid" in found.seen["refused"]
    assert any("seen" in line for line in found.console)
