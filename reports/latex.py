"""A leaderboard in LaTeX: one `table` a section, to paste into a paper; needs booktabs and graphicx."""

from __future__ import annotations

import re

from pylatexenc.latexencode import RULE_DICT, UnicodeToLatexConversionRule, UnicodeToLatexEncoder

from reports.board import Board, Section
from reports.columns import definitions
from reports.facts import STAND_IN, protocol_facts, warning
from reports.tables import Cell, Column, Table, main_table

WIDEST = 14
"""Letters of the widest heading on one line."""
WIDEST_TABLE = 70
"""Letters of a row that still fits on a page of one column; a wider table is scaled down to it."""
SYMBOLS = {
    "↑": r"\uparrow",
    "↓": r"\downarrow",
    "→": r"\rightarrow",
    "×": r"\times",
    "−": "-",
    "†": r"\dagger",
}
"""In mathematics: the text font's own are bitmaps, which conferences refuse."""
_RULES = {ord(letter): rf"\ensuremath{{{command}}}" for letter, command in SYMBOLS.items()}
_RULES[ord("|")] = r"{\textbar}"
_ENCODER = UnicodeToLatexEncoder(
    conversion_rules=[UnicodeToLatexConversionRule(RULE_DICT, _RULES), "defaults"],
    unknown_char_policy="replace",
    unknown_char_warning=False,
)


def page(board: Board) -> str:
    """The card and the columns' definitions as comments, then the main table of each section."""
    protocol = board.protocol
    lines = [_comment(board.announcement)] if board.announcement else []
    lines += [r"% In the preamble: \usepackage{booktabs,graphicx}", _comment(f"Protocol {board.name}")]
    lines += [_comment(f"{fact.label}: {fact.text}") for fact in protocol_facts(protocol)]
    lines += [_comment(f"{name}: {meaning}") for name, meaning in definitions(protocol).items()]
    for section in board.sections:
        lines += ["", *_floating(board, section)]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text that LaTeX prints as it stands; what pdfLaTeX has no letter for becomes a bold question mark."""
    return str(_ENCODER.unicode_to_latex(" ".join(text.split())))


def _floating(board: Board, section: Section) -> list[str]:
    table = main_table(board.protocol, section.rows)
    kept = [i for i, column in enumerate(table.columns) if column.heading not in ("minutes", "status")]
    columns = [table.columns[i] for i in kept]
    body = [" & ".join(_cell(row[i]) for i in kept) + r" \\" for row in table.rows]
    is_wide = sum(max(_width(row[i]) for row in table.rows) for i in kept) > WIDEST_TABLE
    alignment = "".join("r" if column.is_number else "l" for column in columns)
    return [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(board, section, table)}}}",
        rf"\label{{tab:{_label(board, section)}}}",
        r"\small",
        r"\setlength{\tabcolsep}{4pt}",
        *([r"\resizebox{\textwidth}{!}{%"] if is_wide else []),
        rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
        r"\toprule",
        " & ".join(map(_header, columns)) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}" + ("}" if is_wide else ""),
        *_below(table, section),
        r"\end{table}",
    ]


def _caption(board: Board, section: Section, table: Table) -> str:
    protocol = board.protocol
    words = f"{board.name} ({section.title}), {protocol.task}, {protocol.setting}. {' '.join(table.notes)}"
    if protocol.task == "semantic":
        words += f" Background {'counted' if protocol.background else 'not counted'}."
    caption = escape(words.replace("`", "")) + r" Best in \textbf{bold}, second \underline{underlined}."
    if section.data == "real":
        return caption
    return rf"\textbf{{{escape(STAND_IN)}}} {escape(warning(protocol.dataset_title, partly=False))} {caption}"


def _below(table: Table, section: Section) -> list[str]:
    """Footnotes, and what did not end well: a table without a status column must not hide it."""
    notes = [rf"$^{{{i}}}$ {escape(text)}" for i, text in enumerate(table.footnotes, start=1)]
    notes += [
        rf"\texttt{{{escape(row['method'])}}}: {escape(row['status'])}"
        for row in section.rows
        if row["status"] != "ok"
    ]
    return [r"\par\smallskip", r"\footnotesize\raggedright " + r"; ".join(notes) + "."] if notes else []


def _header(column: Column) -> str:
    """The heading, a long one on two lines."""
    text = f"{column.heading} {column.arrow}".rstrip()
    if len(text) <= WIDEST:
        return escape(text)
    middle = min((m.start() for m in re.finditer(" ", text)), key=lambda i: abs(i - len(text) / 2))
    return rf"\shortstack[r]{{{escape(text[:middle])}\\{escape(text[middle:])}}}"


def _cell(cell: Cell) -> str:
    text = escape(cell.text) + (rf"\,$\pm$\,{escape(cell.spread)}" if cell.spread else "")
    if cell.code:
        text = rf"\texttt{{{text}}}"
    if cell.place:
        text = rf"\textbf{{{text}}}" if cell.place == 1 else rf"\underline{{{text}}}"
    if cell.remark:
        text += f" ({escape(cell.remark)})"
    raised = ",".join([r"\dagger"] * bool(cell.mark) + [str(i) for i in cell.footnotes])
    return text + (rf"$^{{{raised}}}$" if raised else "")


def _width(cell: Cell) -> int:
    """Letters."""
    return (
        len(cell.text) + len(cell.remark) + len(cell.footnotes) + (len(cell.spread) + 3 if cell.spread else 0)
    )


def _comment(text: str) -> str:
    return "% " + " ".join(text.removeprefix("> ").replace("*", "").split())


def _label(board: Board, section: Section) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", f"{board.stem}-{section.scale}-{section.data}")
