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
_LEAST_FONT_SIZE = _FONT_SIZES[-1]
_MARGIN, _FOOT = 14 * mm, 14 * mm
_PICTURE_SIDES = (78 * mm, 69 * mm, 60 * mm, 52 * mm)
_GREY = Color(0.35, 0.35, 0.35)
_SECOND_PAGE = frozenset({"Technique", "Limits", "Sources of the recommendations", "Models", "Warnings"})


@dataclass(frozen=True)
class _Layout:
    """How large letters and pictures are, and whether the second page begins where the first one ends."""

    size: float
    side: float
    flowing: bool = False


_LAYOUTS = (
    *(_Layout(size, side) for size in _FONT_SIZES for side in _PICTURE_SIDES),
    *(_Layout(_LEAST_FONT_SIZE, side, flowing=True) for side in _PICTURE_SIDES),
)


def write_pdf(briefing: Briefing, report: ReportResult, slices: Sequence[KeySlice]) -> bytes:
    """The PDF. Pictures become smaller, and then letters, until all is on two pages.

    What does not fit on the first page at the smallest size goes on on the second, and then on further ones: nothing
    is left out. The same arguments give the same bytes.
    """
    blocks = report_blocks(briefing, report)
    # Tried without pictures, as writing those takes most of the time.
    fitting = (one for one in _LAYOUTS if _built(briefing, blocks, slices, one, draft=True)[1] <= PAGES)
    content, _ = _built(briefing, blocks, slices, next(fitting, _LAYOUTS[-1]))
    return content


def _built(
    briefing: Briefing, blocks: Sequence[Block], slices: Sequence[KeySlice], layout: _Layout, *, draft: bool = False
) -> tuple[bytes, int]:
    """The PDF and how many pages it has; a draft leaves the pictures blank."""
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
    size = layout.size
    story: list[Flowable] = [
        Paragraph(TITLE, _style("title", size + 5)),
        Paragraph(escape(f"Study {briefing.study_id}, briefing {briefing.briefing_id}"), _style("note", size)),
        *_flowables([block for block in blocks if block.title not in _SECOND_PAGE], size),
        *([] if layout.flowing else [PageBreak()]),
        *_pictures(slices, layout, draft=draft),
        *_flowables([block for block in blocks if block.title in _SECOND_PAGE], min(size, 7.5)),
    ]
    foot = partial(_foot, notice=briefing.notice)
    document.build(story, onFirstPage=foot, onLaterPages=foot)
    return out.getvalue(), document.page


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
