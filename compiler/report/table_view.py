"""Sets a page for a terminal: colours on a terminal, plain text in a pipe, 80 columns anywhere."""

from typing import IO, TYPE_CHECKING, Final, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from qcompile.compiler.report.page import Page, Remark, Table
from qcompile.compiler.report.wording import page_of

if TYPE_CHECKING:
    from qcompile.compiler.report.diff_model import AnyReport

_STYLES: Final = {"info": "", "warning": "yellow", "bad": "bold red", "good": "green"}
_PREFIXES: Final = {"info": "note: ", "warning": "warning: "}


def print_report(report: "AnyReport", file: IO[str]) -> None:
    """Print a report; ``file`` decides whether there are colours and how wide it is."""
    print_page(page_of(report), file)


def print_page(page: Page, file: IO[str]) -> None:
    """Print a page; lines in a pipe or a file do not end in spaces."""
    console = console_for(file)
    if console.is_terminal:
        console.print(_rendered(page))
        return
    with console.capture() as capture:
        console.print(_rendered(page))
    file.writelines(line.rstrip() + "\n" for line in capture.get().splitlines())


def console_for(file: IO[str]) -> Console:
    """A console that prints names as they are: no markup, no emoji, no guessed highlights."""
    return Console(file=file, markup=False, emoji=False, highlight=False)


def _rendered(page: Page) -> RenderableType:
    """A page as rich sets it."""
    parts: list[RenderableType] = [Text(page.title, style="bold")]
    parts += [_facts(page.facts)] if page.facts else []
    parts += [_table(table) for table in page.tables]
    if page.remarks:
        parts.append(Text(""))
    parts += [_remark(remark) for remark in page.remarks]
    return Group(*parts)


def _facts(facts: tuple[tuple[str, str], ...]) -> RenderableType:
    grid = RichTable.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="cyan")
    grid.add_column(overflow="fold")
    for label, text in facts:
        grid.add_row(Text(label), Text(text))
    return Padding(grid, (0, 0, 0, 2))


def _table(table: Table) -> RenderableType:
    rich = RichTable(
        title=Text(table.title, style="bold") if table.title else None,
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
    )
    for index, name in enumerate(table.header):
        justify: Literal["left", "right"] = "right" if index in table.right else "left"
        whole = index in table.whole
        rich.add_column(Text(name), justify=justify, overflow="fold", no_wrap=whole)
    for row in table.rows:
        rich.add_row(*(Text(cell) for cell in row))
    return Padding(rich, (1, 0, 0, 2))


def _remark(remark: Remark) -> RenderableType:
    text = Text(_PREFIXES.get(remark.tone, "") + remark.text, style=_STYLES[remark.tone])
    return Padding(text, (0, 0, 0, 2))
