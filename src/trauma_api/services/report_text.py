"""A finished report as plain text and as Markdown."""

import re

from trauma_api.schemas.briefings import Briefing
from trauma_api.schemas.report import ReportResult
from trauma_api.services.report_document import TITLE, Line, report_blocks

# Besides what is markup anywhere: what many readers turn into a link or a formula, and what opens a list or a heading.
_MARKUP = re.compile(r"[\\`*_\[\]<>|#~&@$]|:(?=//)|(?<=www)\.|^[-+=]", re.IGNORECASE)
_NUMBERED = re.compile(r"^(\d+)(?=[.)])")


def plain_text(briefing: Briefing, report: ReportResult) -> str:
    """Plain text; lines are not wrapped."""
    lines = [TITLE, f"Study {briefing.study_id}, briefing {briefing.briefing_id}", "", briefing.notice]
    for block in report_blocks(briefing, report):
        lines += ["", block.title.upper(), *(f"- {_plain(line)}" for line in block.lines)]
    return "\n".join([*lines, "", briefing.notice, ""])


def _plain(line: Line) -> str:
    text = " ".join(line.text.split())
    marked = f"{line.mark}: {text}" if line.mark else text
    return f"{marked} {line.url}" if line.url else marked


def markdown(briefing: Briefing, report: ReportResult) -> str:
    """Markdown; what a model or a caller wrote cannot become markup."""
    notice = escaped(briefing.notice)
    lines = [f"# {TITLE}", "", f"Study `{briefing.study_id}`, briefing `{briefing.briefing_id}`", "", f"> {notice}"]
    for block in report_blocks(briefing, report):
        lines += ["", f"## {escaped(block.title)}", "", *(f"- {_marked_up(line)}" for line in block.lines)]
    return "\n".join([*lines, "", f"> {notice}", ""])


def _marked_up(line: Line) -> str:
    text = f"*{escaped(line.mark)}:* {escaped(line.text)}" if line.mark else escaped(line.text)
    return f"{text} <{line.url}>" if line.url else text


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _NUMBERED.sub(r"\1\\", _MARKUP.sub(r"\\\g<0>", " ".join(text.split())))
