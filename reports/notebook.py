"""How a sweep and a report show themselves in a notebook: a few lines of HTML without script."""

from pathlib import Path

import pandas as pd
from markupsafe import Markup, escape

from reports.content import Card
from reports.wording import name_text

_TONES = {"decided": "#17663f", "equivalent": "#17663f", "comparable": "#17663f", "invalid": "#b00f1c"}
_FIRST = 8  # trials shown of a sweep


def report(card: Card, page: Path) -> str:
    """The answer, how far it holds, and where the page is."""
    tone = _TONES.get(card.strength, "#7d4e00")
    badge = Markup(
        '<span style="background:{};color:#fff;border-radius:4px;padding:1px 8px;font-weight:600">{}</span>'
    ).format(tone, card.strength)
    facts = Markup("").join(
        Markup("<li><b>{}</b>: {}</li>").format(label, " ".join(text.split())) for label, text, _ in card.facts
    )
    return str(
        Markup(
            '<div style="max-width:80ch"><p style="opacity:.75">{}</p><p style="font-size:1.15em">{}</p>'
            '<p>{} {}</p><ul>{}</ul><p><a href="{}">{}</a></p></div>'
        ).format(card.question, card.answer, badge, card.strength_note, facts, page.absolute().as_uri(), page)
    )


def sweep(said: str, question: str, trials: pd.DataFrame) -> str:
    """A line about the sweep and its first trials."""
    head = trials.drop(columns=["variant", "encoder"], errors="ignore").head(_FIRST)
    table = head.to_html(max_cols=12, border=0)  # escapes names
    return f"<p>{escape(said)}</p><p>{escape(name_text(question))}</p>{table}<p>… of {len(trials):,} rows</p>"
