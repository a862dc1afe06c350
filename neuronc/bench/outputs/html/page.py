"""One page that holds all it needs: text, plots as data, and the library that draws them."""

import json
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path

from neuronc.bench.outputs.html import panels
from neuronc.bench.outputs.html.cards import card_groups
from neuronc.bench.outputs.html.compare_plot import Ratio, forest_plot, log_ratios
from neuronc.bench.outputs.html.figure import Figure, Plot
from neuronc.bench.outputs.html.load_plots import load_plot, tradeoff_plot
from neuronc.bench.outputs.html.markup import (
    cards,
    escape,
    navigation,
    paragraph,
    plot,
    plots,
    section,
)
from neuronc.bench.outputs.html.percentile_plot import percentile_plots
from neuronc.bench.outputs.html.predicted_plot import predicted_plot
from neuronc.bench.outputs.html.slot_plot import slot_plot
from neuronc.bench.outputs.html.step_plots import histograms, roofline_plot
from neuronc.bench.outputs.reading import Document, is_invalid, verdict
from neuronc.errors import ToolchainError

Ratios = Callable[[Document, Document], Sequence[Ratio]]
# Nothing but what is in the page: a request to anywhere is refused by the browser itself.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
)


def write_html(
    document: Document, path: Path, *, other: Document | None = None, ratios: Ratios = log_ratios
) -> None:
    """Write the page of ``document``; with ``other`` it has a tab that compares the two.

    ``path`` appears only once complete.

    Raises:
        ToolchainError: plotly is not installed.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        unfinished.write_text(render_html(document, other=other, ratios=ratios), "utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def render_html(
    document: Document, *, other: Document | None = None, ratios: Ratios = log_ratios
) -> str:
    """The page as text, about 5 MB of which are plotly.js."""
    library = plotly_js()
    drawn: list[Figure] = []
    run = "".join(_run_tab(document, drawn))
    run = f"{navigation(run)}{run}"
    compared = "" if other is None else _compare_tab(document, other, ratios, drawn)
    name = _name(document)
    return "".join(
        (
            "<!doctype html><html lang=en><head><meta charset=utf-8>",
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            "<meta name=viewport content='width=device-width, initial-scale=1'>",
            f"<title>{escape(_title(document, name))}</title><style>{_shipped('page.css')}</style>",
            f"<script>{_shipped('watch.js')}</script></head><body>",
            _header(document, name, tabs=other is not None),
            f"<main id=run-tab>{run}</main>{compared}",
            "<noscript><p>The plots need JavaScript; the tables do not.</p></noscript>",
            f"<script>{library}</script>",
            f"<script type='application/json' id=figures>{_figures(drawn)}</script>",
            f"<script>{_shipped('page.js')}</script></body></html>",
        )
    )


def plotly_js() -> str:
    """The library that draws the plots.

    Raises:
        ToolchainError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        message = "the HTML page needs plotly, which is not installed"
        raise ToolchainError(message, hint="pip install 'neuronc[html]'") from error
    return str(get_plotlyjs())


def _run_tab(document: Document, drawn: list[Figure]) -> Iterator[str]:
    if is_invalid(document):
        yield from _invalid_tab(document, drawn)
        return
    mark = "" if document["status"] == "ok" else document["status"]
    groups = "".join(cards(group, mark) for group in card_groups(document))
    if groups:
        more = panels.all_estimates(document)
        yield section("numbers", "The numbers", groups, more, sentence=_PRIMER)
    yield _plots("latency", "How long one waits", percentile_plots(document), drawn)
    under_load: list[Plot] = [tradeoff_plot(document), load_plot(document)]
    yield _plots("under-load", "What load does to it", under_load, drawn)
    yield _plots("time", "Where the time goes", [slot_plot(document)], drawn)
    yield _plots("steps", "How steady each program is", histograms(document), drawn, grid=True)
    yield panels.slowest_steps(document)
    roof = [roofline_plot(document), predicted_plot(document)]
    yield _plots(
        "roof", "What the machine could do", roof, drawn, after=panels.cell_table(document)
    )
    yield panels.trust(document)
    yield panels.about(document)


def _invalid_tab(document: Document, drawn: list[Figure]) -> Iterator[str]:
    text = "The output of this run was wrong, so how fast it came means nothing."
    yield panels.trust(document)
    yield section("numbers", "No numbers", paragraph(text), "")
    yield _plots("time", "To find the cause: what ran when", [slot_plot(document)], drawn)
    yield panels.about(document)


def _compare_tab(document: Document, other: Document, ratios: Ratios, drawn: list[Figure]) -> str:
    if is_invalid(document) or is_invalid(other):
        text = "One of the two runs is invalid, so they cannot be compared."
        body = section("compare", "Compared", paragraph(text), panels.differing(document, other))
    else:
        made = forest_plot(ratios(document, other))
        after = panels.differing(document, other)
        doubt = verdict(other)
        after = (paragraph(f"The other run: {doubt}", "strong") if doubt else "") + after
        body = _plots("compare", "Compared with the other run", [made], drawn, after=after)
    return f"<main id=compare-tab>{body}</main>"


def _plots(
    section_id: str,
    title: str,
    made: Sequence[Plot],
    drawn: list[Figure],
    *,
    grid: bool = False,
    after: str = "",
) -> str:
    drawn += [figure for figure in made if isinstance(figure, Figure)]
    body = plots(made, grid=True) if grid else "".join(map(plot, made))
    sentence = _HISTOGRAM_SENTENCE if grid else ""
    return section(section_id, title, body, after, sentence=sentence)


_PRIMER = (
    "A request is a prompt that is read at once (prefill) and then answered token by token "
    "(decode). The model works on a few requests at the same time, each in a slot. Every number "
    "comes with what the repeats say about its uncertainty."
)
_HISTOGRAM_SENTENCE = (
    "Compiled ahead of time means no surprises: each plot should be one narrow hill. The axis of "
    "shares is logarithmic, so that one slow step in a thousand is still to be seen."
)


def _header(document: Document, name: str, *, tabs: bool) -> str:
    found = verdict(document)
    banner = f'<p class="banner {document["status"]}">{escape(found)}</p>' if found else ""
    made = document["fingerprint"]
    line = (
        f"{made['dtype']}, tp {made['tp']}, {made['batch_size']} slots of {made['max_length']} "
        f"tokens; {document['environment'].get('cpu_model') or 'CPU not known'}"
    )
    buttons = (
        "<div class=tabs role=tablist><button type=button role=tab data-tab=run-tab>This run"
        "</button><button type=button role=tab data-tab=compare-tab>Compared</button></div>"
    )
    return (
        f"<header><p class=kicker>neuronc bench</p><h1>{escape(name)}</h1>"
        f"<p class=headline>{escape(document['headline'])}</p><p class=note>{escape(line)}</p>"
        f"{banner}{buttons if tabs else ''}</header>"
    )


def _title(document: Document, name: str) -> str:
    mark = {"ok": "", "noisy": "NOISY RUN, ", "invalid": "INVALID RUN, "}[document["status"]]
    return f"{mark}{name}: neuronc bench"


def _name(document: Document) -> str:
    model = document["fingerprint"]["model"]
    return str(model["source"] or model["model_type"])


def _figures(drawn: Sequence[Figure]) -> str:
    specs = [
        {
            "id": f.id,
            "data": list(f.traces),
            "layout": f.layout,
            "height": f.height,
            "pages": f.pages,
        }
        for f in drawn
    ]
    text = json.dumps(specs, allow_nan=False, separators=(",", ":"))
    # Inside a script element only these can end it or begin a comment.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _shipped(name: str) -> str:
    return resources.files("neuronc.bench.outputs.html").joinpath(name).read_text("utf-8")
