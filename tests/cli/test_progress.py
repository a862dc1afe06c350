import io
import re
import threading

import pytest
from rich.console import Console

from neuronc.cli.progress import BarProgress, LineProgress, describe_amount, make_progress
from neuronc.progress import SILENT, Progress


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def bars() -> tuple[Progress, io.StringIO]:
    stream = io.StringIO()
    return BarProgress(Console(file=stream, force_terminal=True, width=120), Clock()), stream


def cursor_is_back(stream: io.StringIO) -> bool:
    """The cursor is hidden as long as bars are on screen."""
    return stream.getvalue().rfind("\x1b[?25h") > stream.getvalue().rfind("\x1b[?25l")


def fail_inside(progress: Progress) -> None:
    with progress.stage("link"):
        message = "broken"
        raise ValueError(message)


def test_quiet_draws_nothing() -> None:
    assert make_progress(quiet=True) is SILENT


def test_stderr_that_is_no_terminal_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with make_progress(quiet=False).stage("split"):
        pass
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"split \.\.\.\nsplit: done in \d+\.\d s\n", captured.err)


def test_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(make_progress(quiet=False), BarProgress)


def test_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_progress(quiet=False), LineProgress)


def test_lines_say_begin_amount_and_elapsed_time() -> None:
    stream, clock = io.StringIO(), Clock()
    with LineProgress(stream, clock).stage("read", total=4, unit="tensors") as stage:
        clock.now_s += 3
        stage.advance(2, "embed")
        clock.now_s += 2.5
    assert stream.getvalue().splitlines() == [
        "read ...",
        "read: 2 of 4 tensors, embed (3 s)",
        "read: done in 5.5 s",
    ]


def test_bytes_come_with_their_rate_and_the_time_left() -> None:
    stream, clock = io.StringIO(), Clock()
    with LineProgress(stream, clock).stage("split", total=10e9, unit="bytes") as stage:
        clock.now_s += 4
        stage.advance(2e9, "embed")
        clock.now_s += 1
    lines = stream.getvalue().splitlines()
    assert lines[1] == "split: 2,000.0 of 10,000.0 MB, 500 MB/s, 16 s left, embed (4 s)"


def test_fast_advances_are_not_printed_each() -> None:
    stream, clock = io.StringIO(), Clock()
    with LineProgress(stream, clock).stage("read", total=1000, unit="tensors") as stage:
        for _ in range(1000):
            clock.now_s += 0.01
            stage.advance()
    # 10 s of work: one line at most every 2 s, between the first and the last line.
    assert len(stream.getvalue().splitlines()) == 2 + 5


def test_slow_advances_print_at_most_ten_lines() -> None:
    stream, clock = io.StringIO(), Clock()
    with LineProgress(stream, clock).stage("read", total=100, unit="tensors") as stage:
        for _ in range(100):
            clock.now_s += 5
            stage.advance()
    assert len(stream.getvalue().splitlines()) == 2 + 10


def test_work_that_stands_still_is_heard_of_now_and_then() -> None:
    stream, clock = io.StringIO(), Clock()
    with LineProgress(stream, clock).stage("compile", total=2, unit="programs") as stage:
        for _ in range(120):
            clock.now_s += 0.5
            stage.advance(0, f"decode: {clock.now_s - 100:.0f} s, 1.5 GiB")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2 + 4
    assert lines[1] == "compile: 0 of 2 programs, decode: 15 s, 1.5 GiB (15 s)"


def test_stage_that_fails_says_so_and_lets_the_error_through() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="broken"):
        fail_inside(LineProgress(stream, Clock()))
    assert stream.getvalue().endswith("link: stopped after 0.0 s\n")


def test_closed_stderr_does_not_stop_the_work() -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    with LineProgress(Gone(), Clock()).stage("split") as stage:
        stage.advance()


def test_nested_stages_report_each_under_its_own_title() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = LineProgress(stream, clock)
    with progress.stage("compile"), progress.stage("prefill 32"):
        clock.now_s += 1
    assert stream.getvalue().splitlines() == [
        "compile ...",
        "prefill 32 ...",
        "prefill 32: done in 1.0 s",
        "compile: done in 1.0 s",
    ]


def test_finished_bars_leave_one_line_each() -> None:
    progress, stream = bars()
    with progress.stage("compile [x]", total=2, unit="programs") as outer:
        with progress.stage("prefill", total=2e6, unit="bytes") as inner:
            inner.advance(1e6, "chunk")
        outer.advance()
    drawn = stream.getvalue()
    assert "✓ prefill  0.0 s\n" in drawn
    assert "✓ compile [x]  0.0 s\n" in drawn


def test_outer_bar_stays_on_screen_when_an_inner_one_ends() -> None:
    progress, stream = bars()
    with progress.stage("compile"):
        with progress.stage("prefill"):
            pass
        assert not cursor_is_back(stream)
    assert cursor_is_back(stream)


def test_bars_can_be_opened_again_after_all_were_closed() -> None:
    progress, stream = bars()
    for title in ("first", "second"):
        with progress.stage(title):
            pass
    assert "✓ second" in stream.getvalue()


def test_bar_of_a_failed_stage_is_crossed_and_the_cursor_comes_back() -> None:
    progress, stream = bars()
    with pytest.raises(ValueError, match="broken"):
        fail_inside(progress)
    assert "✗ link" in stream.getvalue()
    assert cursor_is_back(stream)


@pytest.mark.parametrize("style", ["lines", "bars"])
def test_stages_of_several_threads_all_finish(style: str) -> None:
    progress, stream = bars()
    if style == "lines":
        stream = io.StringIO()
        progress = LineProgress(stream)

    def work(rank: int) -> None:
        with progress.stage(f"rank {rank}", total=50, unit="tensors") as stage:
            for _ in range(50):
                stage.advance()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ends = [f"✓ rank {n} " if style == "bars" else f"rank {n}: done in" for n in range(4)]
    assert all(end in stream.getvalue() for end in ends)


@pytest.mark.parametrize(
    ("done", "total", "unit", "shown"),
    [
        (12, 272, "tensors", "12 of 272 tensors"),
        (5, None, "tokens", "5 tokens"),
        (1.5e6, 98e6, "bytes", "1.5 of 98.0 MB"),
        (1, 2, "", "1 of 2"),
    ],
)
def test_amounts_read_well(done: float, total: float | None, unit: str, shown: str) -> None:
    assert describe_amount(done, total, unit) == shown
