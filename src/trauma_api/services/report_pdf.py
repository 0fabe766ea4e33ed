"""A finished report as PDF: the report on the first page, key slices and what to know of them on the second."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import Color, black
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Image, PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from trauma_api.schemas.briefings import Briefing
from trauma_api.schemas.report import ReportResult
from trauma_api.services.report_document import TITLE, Block, KeySlice, Line, report_blocks

PAGES = 2
_FONT = "Helvetica"
_FONT_SIZES = (9.0, 8.5, 8.0, 7.5, 7.0)
_MARGIN, _FOOT = 14 * mm, 14 * mm
_PICTURE_SIDES = tuple(side * mm for side in (78, 72, 66, 61, 56, 52))
_GREY = Color(0.35, 0.35, 0.35)
_SECOND_PAGE = frozenset({"Technique", "Limits", "Sources", "Models", "Warnings"})


@dataclass(frozen=True)
class _Layout:
    """How large letters and pictures are, and whether the second page begins where the first one ends."""

    size: float
    side: float
    flowing: bool = False


class _Report:
    """A report that can be laid out. Drafts leave pictures blank, as writing those takes most of the time."""

    def __init__(self, briefing: Briefing, report: ReportResult, slices: Sequence[KeySlice]) -> None:
        self._briefing = briefing
        self._blocks = report_blocks(briefing, report)
        self._slices = slices

    def layout(self) -> _Layout:
        """The largest letters that fit, and with those the largest pictures."""
        for size in _FONT_SIZES:
            if self._pages(self._first(size)) > 1:
                continue
            for side in _PICTURE_SIDES:
                layout = _Layout(size, side)
                if self._pages(self._second(layout, draft=True)) <= 1:
                    return layout
        flowing = [_Layout(_FONT_SIZES[-1], side, flowing=True) for side in _PICTURE_SIDES]
        return next((one for one in flowing if self._pages(self._story(one, draft=True)) <= PAGES), flowing[-1])

    def pdf(self, layout: _Layout) -> bytes:
        """The PDF, pictures and all."""
        return self._built(self._story(layout, draft=False))[0]

    def _story(self, layout: _Layout, *, draft: bool) -> list[Flowable]:
        between = [] if layout.flowing else [PageBreak()]
        return [*self._first(layout.size), *between, *self._second(layout, draft=draft)]

    def _first(self, size: float) -> list[Flowable]:
        named = f"Study {self._briefing.study_id}, briefing {self._briefing.briefing_id}"
        return [
            Paragraph(TITLE, _style("title", size + 5)),
            Paragraph(escape(named), _style("note", size)),
            *_flowables([block for block in self._blocks if block.title not in _SECOND_PAGE], size),
        ]

    def _second(self, layout: _Layout, *, draft: bool) -> list[Flowable]:
        blocks = [block for block in self._blocks if block.title in _SECOND_PAGE]
        return [*_pictures(self._slices, layout, draft=draft), *_flowables(blocks, min(layout.size, 7.5))]

    def _pages(self, story: list[Flowable]) -> int:
        return self._built(story)[1]

    def _built(self, story: list[Flowable]) -> tuple[bytes, int]:
        out = io.BytesIO()
        document = SimpleDocTemplate(
            out,
            pagesize=A4,
            leftMargin=_MARGIN,
            rightMargin=_MARGIN,
            topMargin=_MARGIN,
            bottomMargin=_MARGIN + _FOOT,
            title=TITLE,
            author="trauma-api",
            invariant=1,
        )
        foot = partial(_foot, notice=self._briefing.notice)
        document.build(story, onFirstPage=foot, onLaterPages=foot)
        return out.getvalue(), document.page


def write_pdf(briefing: Briefing, report: ReportResult, slices: Sequence[KeySlice]) -> bytes:
    """The PDF. Pictures become smaller, and then letters, until all is on two pages.

    What does not fit on the first page at the smallest size goes on on the second, and then on further ones: nothing
    is left out. The same arguments give the same bytes.
    """
    laid_out = _Report(briefing, report, slices)
    return laid_out.pdf(laid_out.layout())


def _flowables(blocks: Sequence[Block], size: float) -> list[Flowable]:
    made: list[Flowable] = []
    for block in blocks:
        made.append(Paragraph(escape(block.title), _style("heading", size + 1.5)))
        made += [Paragraph(_marked_up(line), _style(line.kind, size), bulletText="-") for line in block.lines]
    return made


def _marked_up(line: Line) -> str:
    text = escape(showable(" ".join(line.text.split())))
    if line.mark:
        text = f"<i>{escape(line.mark)}:</i> {text}"
    return f"{text} {escape(line.url)}" if line.url else text


def showable(text: str) -> str:
    """The text; a character that the fonts lack is named by its code, where a page would show a black box."""
    return "".join(one if one.isascii() and one.isprintable() else _named(one) for one in text)


@cache
def _named(character: str) -> str:
    font = pdfmetrics.getFont(_FONT)
    known = (_has(one.encName, character) for one in (font, *font.substitutionFonts))
    return character if character.isprintable() and any(known) else f"[U+{ord(character):04X}]"


def _has(encoding: str, character: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _style(kind: str, size: float) -> ParagraphStyle:
    bold = kind in ("title", "heading")
    return ParagraphStyle(
        kind,
        fontName=f"{_FONT}-Bold" if bold else _FONT,
        fontSize=size,
        leading=size * 1.22,
        leftIndent=0 if bold else size,
        bulletIndent=0,
        bulletFontSize=size,
        spaceBefore=size * 0.45 if kind == "heading" else 0,
        spaceAfter=size * 0.15,
        textColor=_GREY if kind in ("note", "source") else black,
        splitLongWords=1,
    )


def _pictures(slices: Sequence[KeySlice], layout: _Layout, *, draft: bool) -> list[Flowable]:
    if not slices:
        return []
    note = _style("note", layout.size)
    cells = [[_fitted(one.png, layout.side, draft=draft), Paragraph(escape(one.caption), note)] for one in slices]
    rows = [cells[at : at + 2] for at in range(0, len(cells), 2)]
    if len(rows[-1]) == 1:
        rows[-1] = [*rows[-1], [Spacer(1, 1)]]
    table = Table(rows, colWidths=[(A4[0] - 2 * _MARGIN) / 2] * 2)
    table.hAlign = "LEFT"
    table.setStyle(TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)]))
    return [Paragraph("Key slices", _style("heading", layout.size + 1.5)), table, Spacer(0, 2 * mm)]


def _fitted(png: bytes, side: float, *, draft: bool) -> Flowable:
    """The whole picture within a square; of a draft, its place."""
    picture = Image(io.BytesIO(png))
    scale = side / max(picture.imageWidth, picture.imageHeight)
    picture.drawWidth, picture.drawHeight = picture.imageWidth * scale, picture.imageHeight * scale
    picture.hAlign = "LEFT"
    return Spacer(picture.drawWidth, picture.drawHeight) if draft else picture


def _foot(canvas: Canvas, document: Any, *, notice: str) -> None:
    """The notice at the foot of each page."""
    note = Paragraph(f"<b>{escape(notice)}</b> Page {document.page}.", _style("foot", 7.5))
    _, height = note.wrap(A4[0] - 2 * _MARGIN, _FOOT)
    note.drawOn(canvas, _MARGIN, _MARGIN + _FOOT - height - 3 * mm)
