"""A finished report as titled blocks of lines, from which text, Markdown and PDF are all made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trauma_api.schemas.base import ModelProvenance
from trauma_api.schemas.briefings import Briefing
from trauma_api.schemas.report import ProseSentence, ReportResult
from trauma_api.services.plain_words import input_in_words

TITLE = "Briefing on an abdominal trauma CT"
_MARKS = {
    "as_written": "Model",
    "rewritten": "Model, second attempt",
    "replaced": "In place of a sentence of the model",
}


@dataclass(frozen=True)
class Line:
    """One line; ``url`` stands behind its text."""

    text: str
    kind: Literal["statement", "prose", "source", "note"] = "statement"
    mark: str = ""
    url: str | None = None


@dataclass(frozen=True)
class Block:
    """A title and its lines."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class KeySlice:
    """A slice to show: a PNG, and what stands below it."""

    png: bytes
    caption: str


def report_blocks(briefing: Briefing, report: ReportResult) -> tuple[Block, ...]:
    """The sections in their order, then the sources, the models, and what to know of both."""
    sections = [
        Block(
            section.name.replace("_", " ").capitalize(),
            (*(Line(one.text) for one in section.statements), *_prose(section.prose or [])),
        )
        for section in report.sections
    ]
    after = [
        Block("Sources", tuple(_sources(report))),
        Block("Models", tuple(Line(text, "note") for text in _models(briefing))),
        Block("Warnings", tuple(Line(text, "note") for text in _warnings(briefing))),
    ]
    return tuple(block for block in (*sections, *after) if block.lines)


def _prose(sentences: Sequence[ProseSentence]) -> list[Line]:
    lines = [Line(one.text, "prose", _MARKS[one.outcome]) for one in sentences if one.outcome in _MARKS]
    left_out = [one for one in sentences if one.outcome == "left_out"]
    if left_out:
        reasons = ", ".join(dict.fromkeys(reason for one in left_out for reason in one.reasons))
        lines.append(Line(f"Sentences of the model that were left out: {len(left_out)} ({reasons}).", "note"))
    return lines


def _sources(report: ReportResult) -> list[Line]:
    """Each source once, and behind it the rows that rest on it with what fired them."""
    lines: dict[str, list[Line]] = {}
    for one in report.recommendations:
        cited = lines.setdefault(
            one.url, [Line(f"{one.source}: {one.guideline}. {one.citation}.", "source", url=one.url)]
        )
        fired = ", ".join(input_in_words(told) for told in one.inputs)
        cited.append(Line(f"{one.id} fired by {fired}.", "source"))
    for score in report.physiology:
        lines.setdefault(score.url, [Line(f"{score.source}: {score.citation}.", "source", url=score.url)])
    return [line for of_source in lines.values() for line in of_source]


def _models(briefing: Briefing) -> list[str]:
    used: dict[tuple[str, str], ModelProvenance] = {}
    for result in briefing.parts.results.values():
        for item in result.provenance:
            used.setdefault((item.role, item.sha256), item)
    return [
        f"{item.role.capitalize()}: {item.checkpoint} ({item.architecture}), sha256 {item.sha256[:12]}, trained on "
        f"{item.trained_on}. Adapter: {item.adapter or 'none'}. Ran on {item.device}, {item.dtype}."
        for item in used.values()
    ]


def _warnings(briefing: Briefing) -> list[str]:
    results = briefing.parts.results.values()
    told = {(one.code, one.detail): None for result in results for one in result.warnings}
    return [f"{code}: {detail}" for code, detail in told]
