"""Pieces of HTML. Every text that comes in is escaped here, so callers pass it as it is."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neuronc.bench.outputs.html.cards import Card, CardGroup
from neuronc.bench.outputs.html.figure import Figure, Plot


def escape(text: object) -> str:
    """Text as text, in an element or an attribute."""
    return html.escape(str(text), quote=True)


def section(section_id: str, title: str, *parts: str, sentence: str = "") -> str:
    """A part of the page that the navigation can point at."""
    intro = f"<p class=lead>{escape(sentence)}</p>" if sentence else ""
    body = "".join(parts)
    return f'<section id="{section_id}"><h2>{escape(title)}</h2>{intro}{body}</section>'


def navigation(body: str) -> str:
    """Links to the sections of ``body``, which `section` made."""
    found = re.findall(r'<section id="([\w-]+)"><h2>(.*?)</h2>', body)
    links = (f'<a href="#{to}">{title.partition(",")[0]}</a>' for to, title in found)
    return f"<nav>{''.join(links)}</nav>"


def panel(title: str, *parts: str) -> str:
    """A box with a heading."""
    return f"<div class=panel><h3>{escape(title)}</h3>{''.join(parts)}</div>"


def folded(title: str, body: str) -> str:
    """Something that a click on its title opens."""
    return f"<details class=panel><summary>{escape(title)}</summary>{body}</details>"


def paragraph(text: object, kind: str = "") -> str:
    """A sentence."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def bullets(items: Iterable[object], absent: str) -> str:
    """A list, or a sentence where there is nothing."""
    made = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{made}</ul>" if made else paragraph(absent)


def facts(values: Mapping[str, Any], *, absent: str = "not known") -> str:
    """Names with values; nested ones are flattened, None is said."""
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(shown)}</dd></div>"
        for name, shown in flat(values, absent=absent).items()
    )
    return f"<dl>{rows}</dl>"


def flat(values: Mapping[str, Any], *, absent: str = "not known") -> dict[str, str]:
    """Names in words, as ``packages numpy``, with values as text."""
    made: dict[str, str] = {}
    for key, value in values.items():
        name = str(key).replace("_", " ")
        if isinstance(value, Mapping):
            for inner, shown in flat(value, absent=absent).items():
                made[inner if inner.startswith(name) else f"{name} {inner}"] = shown
        else:
            made[name] = _shown(value, absent)
    return made


def _shown(value: object, absent: str) -> str:
    if value is None:
        return absent
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _number(value)
    return str(value)


def _number(value: float) -> str:
    """Four digits, and no power of ten where a letter says it."""
    size = abs(value)
    for letter, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if factor <= size < 1000 * factor:
            return f"{value / factor:,.4g} {letter}"
    return f"{value:,.0f}" if 1e4 <= size < 1e6 else f"{value:,.4g}"


def table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], texts: int = 1, *, wrap: bool = False
) -> str:
    """A table that scrolls sideways on a phone; from column ``texts`` on they are numbers."""
    head = "".join(f"<th{_class(i, texts)}>{escape(h)}</th>" for i, h in enumerate(headings))
    body = "".join(
        f"<tr>{''.join(f'<td{_class(i, texts)}>{escape(c)}</td>' for i, c in enumerate(row))}</tr>"
        for row in rows
    )
    return f"<div class=scroll><table{' class=wrap' if wrap else ''}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def plot(made: Plot) -> str:
    """The place of a plot with its words; the script draws it."""
    heading = f"<h3>{escape(made.title)}</h3>"
    said = f"<p class=note>{escape(made.sentence)}</p>"
    if not isinstance(made, Figure):
        return f"<div class='panel absent'>{heading}{said}</div>"
    place = f'<div class=plot id="{made.id}" style="height:{made.height}px"></div>'
    buttons = _page_buttons(made) if made.pages else ""
    kind = "panel small" if made.small else "panel"
    return (
        f'<figure class="{kind}">{heading}{place}{buttons}<figcaption>{said}</figcaption></figure>'
    )


def plots(made: Iterable[Plot], *, grid: bool = False) -> str:
    """Several plots, side by side where there is room if ``grid``."""
    places = "".join(map(plot, made))
    return f"<div class=grid>{places}</div>" if grid else places


def cards(group: CardGroup, mark: str = "") -> str:
    """The cards of one mode; ``mark`` is a doubt that each of them carries."""
    made = "".join(_card(card, mark) for card in group.cards)
    note = f"<p class=note>{escape(group.sentence)}</p>"
    return f"<h3>{escape(group.title)}</h3><div class=cards>{made}</div>{note}"


def _card(card: Card, mark: str) -> str:
    chip = f" <span class=mark>{escape(mark)}</span>" if mark else ""
    size = " long" if len(card.number) > 8 else ""
    return (
        f"<div class=card><div class=label>{escape(card.label)}{chip}</div>"
        f'<div class="number{size}">{escape(card.number)} '
        f"<span class=unit>{escape(card.unit)}</span></div>"
        f"<div class=interval>{escape(card.interval)}</div><div class=says>{escape(card.says)}</div></div>"
    )


def _page_buttons(made: Figure) -> str:
    pages = {"earlier": "-1", "later": "1", "whole run": "all", "begin": "0"}
    buttons = "".join(
        f'<button type=button data-plot="{made.id}" data-page="{page}">{text}</button>'
        for text, page in pages.items()
    )
    return f"<div class=pages>{buttons}</div>"


def _class(index: int, texts: int) -> str:
    return " class=text" if index < texts else ""
