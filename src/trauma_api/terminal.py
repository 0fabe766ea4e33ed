"""What people see in the terminal: progress, and a briefing in print."""

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from trauma_api.schemas.base import Caveat
from trauma_api.schemas.briefings import Briefing, BriefingEvent, PartFailure
from trauma_api.schemas.studies import Study

_STAGES = {"triage": "Triage", "analysis": "Reading", "volume": "Volume", "report": "Report", "session": "Session"}


def show_progress(console: Console, events: Iterable[BriefingEvent]) -> None:
    """A bar per part, until the events end."""
    columns = (SpinnerColumn(), TextColumn("{task.description:<8}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        tasks = {name: progress.add_task(label, total=None, note="") for name, label in _STAGES.items()}
        for event in events:
            if event.part is None:
                continue
            if event.type == "progress":
                note = f"{event.done}/{event.total} slices"
                progress.update(tasks[event.part], completed=event.done, total=event.total, note=note)
            elif event.type == "part":
                progress.update(tasks[event.part], completed=1, total=1, note=event.code or "done")


def show_briefing(
    console: Console, study: Study, briefing: Briefing, base_url: str | None, *, needs_key: bool = False
) -> None:
    """Findings, volume, risk, report, provenance and the notice; and, with ``base_url``, where to go on from."""
    console.print(Panel(_heading(study, briefing), title="Briefing", title_align="left"))
    if briefing.failure is not None:
        console.print(f"[bold red]{briefing.status}[/]: {briefing.failure.detail}")
    parts = briefing.parts
    if parts.analysis is not None:
        console.print(
            _findings(briefing) if parts.analysis.result else _unavailable("Findings", parts.analysis.failure)
        )
    if parts.volume is not None:
        console.print(_volume(briefing) if parts.volume.result else _unavailable("Volume", parts.volume.failure))
    if parts.report is not None:
        console.print(_report(briefing) if parts.report.result else _unavailable("Report", parts.report.failure))
    console.print(_provenance(briefing))
    for caveat in _caveats(study, briefing):
        console.print(f"[yellow]{caveat.code}[/]: {caveat.detail}")
    console.print(f"\n[bold]{briefing.notice}[/]\n")
    if base_url is not None:
        console.print(_next_steps(briefing, base_url, needs_key=needs_key), soft_wrap=True)


def _heading(study: Study, briefing: Briefing) -> Text:
    spacing = study.spacing_zyx_mm
    size = f"{study.slice_count} slices of {study.rows} x {study.columns}"
    geometry = "spacing not known" if spacing is None else " x ".join(f"{value:.3f}" for value in spacing) + " mm"
    triage = briefing.parts.triage.result if briefing.parts.triage is not None else None
    lines = [f"Study {briefing.study_id}: {study.source}, {size}, {geometry} (slices, rows, columns)"]
    if triage is not None:
        chosen = ", ".join(str(index) for index in triage.selected_slices)
        lines.append(f"Suspicious slices: {triage.suspicious_count}; read together: {chosen}")
    return Text("\n".join(lines))


def _findings(briefing: Briefing) -> Table:
    table = Table(title="Findings", title_justify="left")
    for name in ("Finding", "Value", "Probability"):
        table.add_column(name, overflow="fold")
    part = briefing.parts.analysis
    if part is None or part.result is None:
        return table
    findings = part.result.findings
    for name in ("liver", "spleen", "kidneys", "bowel_and_mesentery", "active_extravasation", "hemoperitoneum",
                 "injury_pattern", "severity"):  # fmt: skip
        finding = getattr(findings, name)
        table.add_row(name.replace("_", " "), finding.value.replace("_", " "), f"{finding.probability:.2f}")
    table.add_row("bleeding", Text(findings.bleeding_description), "")
    table.add_row("differentials", Text("; ".join(findings.differentials)), "")
    return table


def _volume(briefing: Briefing) -> Text:
    part = briefing.parts.volume
    if part is None or part.result is None:
        return Text()
    volume = part.result
    interval = f"{volume.interval.low_ml:.1f} to {volume.interval.high_ml:.1f} mL"
    return Text(
        f"Hemorrhage volume: {volume.volume_ml:.1f} mL ({interval})\n"
        f"Risk level: {volume.risk_level}. {volume.risk_convention}"
    )


def _report(briefing: Briefing) -> RenderableType:
    part = briefing.parts.report
    if part is None or part.result is None:
        return Text()
    blocks: list[RenderableType] = []
    for section in part.result.sections:
        lines = [f"- {statement.text}" for statement in section.statements]
        if section.prose is not None:
            lines.append(f"Model: {' '.join(sentence.text for sentence in section.prose if sentence.text)}")
        blocks.append(_titled(section.name.replace("_", " ").title(), lines))
    return Panel(Group(*blocks), title="Report", title_align="left")


def _titled(title: str, lines: list[str]) -> Text:
    return Text(f"{title}\n", style="bold").append("\n".join(lines), "not bold")


def _unavailable(name: str, failure: PartFailure | None) -> Text:
    reason = "" if failure is None else f" ({failure.code}). {failure.detail}"
    return Text(f"{name}: not available{reason}", style="red")


def _provenance(briefing: Briefing) -> Table:
    table = Table(
        "Model", "Checkpoint", "Trained on", "sha256", "On", "Seconds", title="Provenance", title_justify="left"
    )
    for step, item in ((step, item) for step, result in briefing.parts.results.items() for item in result.provenance):
        table.add_row(
            f"{item.role} ({step})",
            item.checkpoint,
            item.trained_on,
            item.sha256[:12],
            f"{item.device} {item.dtype}",
            f"{item.duration_s:.2f}",
        )
    return table


def _caveats(study: Study, briefing: Briefing) -> list[Caveat]:
    results = briefing.parts.results.values()
    everything = [*study.warnings, *(caveat for result in results for caveat in result.warnings)]
    return list({(caveat.code, caveat.detail): caveat for caveat in everything}.values())


def _middle_read(briefing: Briefing) -> int:
    triage = briefing.parts.triage
    if triage is None or triage.result is None:
        return 0
    selected = triage.result.selected_slices
    return selected[len(selected) // 2]


def _next_steps(briefing: Briefing, base_url: str, *, needs_key: bool) -> Text:
    lines = [
        f"API and examples   {base_url}/docs",
        f"This briefing      {base_url}{briefing.links.self_url}",
        f"The report as PDF  {base_url}{briefing.links.report_pdf_url}",
        f"A slice, with mask {base_url}{briefing.links.study_url}/slices/{_middle_read(briefing)}.png?overlay=true",
    ]
    if briefing.links.questions_url is not None:
        key = "-H 'Authorization: Bearer <key>' " if needs_key else ""
        lines.append(
            f"Ask a question     curl -N {base_url}{briefing.links.questions_url} {key}"
            "-H 'Accept: text/event-stream' -H 'Content-Type: application/json' "
            """-d '{"question": "Is there active bleeding?"}'"""
        )
    return Text("\n".join(lines))
