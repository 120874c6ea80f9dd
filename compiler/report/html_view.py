"""Sets a page for a notebook: a few plain HTML tables, no script, no style sheet."""

from html import escape
from typing import TYPE_CHECKING, Final

from qcompile.compiler.report.wording import page_of

if TYPE_CHECKING:
    from qcompile.compiler.report.diff_model import AnyReport
    from qcompile.compiler.report.page import Page, Remark, Table

_COLOURS: Final = {"info": "inherit", "warning": "#9a6700", "bad": "#cf222e", "good": "#1a7f37"}


def html_of(report: "AnyReport") -> str:
    """The report as one ``div``."""
    return html_page(page_of(report))


def html_page(page: "Page") -> str:
    """A page as one ``div``; every text is escaped."""
    facts = "".join(f"<tr>{_cell('th', a)}{_cell('td', b)}</tr>" for a, b in page.facts)
    parts = [f"<h4>{escape(page.title)}</h4>", f"<table>{facts}</table>"]
    parts += map(_table, page.tables)
    parts += map(_remark, page.remarks)
    return f"<div>{''.join(parts)}</div>"


def _table(table: "Table") -> str:
    head = "".join(_cell("th", name, right=i in table.right) for i, name in enumerate(table.header))
    body = "".join(
        "<tr>"
        + "".join(_cell("td", text, right=i in table.right) for i, text in enumerate(row))
        + "</tr>"
        for row in table.rows
    )
    return f"<h5>{escape(table.title)}</h5><table><tr>{head}</tr>{body}</table>"


def _cell(tag: str, text: str, *, right: bool = False) -> str:
    return f'<{tag} style="text-align:{"right" if right else "left"}">{escape(text)}</{tag}>'


def _remark(remark: "Remark") -> str:
    return f'<p style="color:{_COLOURS[remark.tone]}">{escape(remark.text)}</p>'
