"""``trauma-api evaluate``: what its options mean, and what it prints."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from trauma_api.evaluation.campaign import REPORT_FILE, Request, evaluate
from trauma_api.evaluation.cases import FolderError
from trauma_api.evaluation.report import Evaluation, interval, shown
from trauma_api.evaluation.results import PARTS, Part
from trauma_api.log import configure_logging
from trauma_api.settings import Settings


def parse_parts(text: str) -> frozenset[Part]:
    """Parts from ``triage,volume``. Raises ValueError for an unknown one, or none."""
    names = {name.strip() for name in text.split(",") if name.strip()}
    parts = frozenset(part for part in PARTS if part in names)
    if len(parts) != len(names) or not parts:
        raise ValueError(f"--stages takes {', '.join(PARTS)}, separated by commas.")
    return parts


def run_command(settings: Settings, request: Request) -> None:
    """Evaluate and print. Raises FolderError and StartError."""
    if not request.folder.is_dir():
        raise FolderError("There is no such folder.")
    configure_logging("ERROR")
    evaluation = evaluate(settings, request, Console(stderr=True))
    print_evaluation(Console(), evaluation, request.out)


def print_evaluation(console: Console, evaluation: Evaluation, out: Path) -> None:
    """Sections that have figures, failures, and where the report is."""
    for section, figures in evaluation.figures.items():
        known = [(name, figure) for name, figure in figures.items() if figure.estimate.value is not None]
        if known:
            table = Table("Figure", "Value", "95 % interval", "n", title=section, title_justify="left")
            for name, figure in known:
                table.add_row(name, shown(figure), interval(figure), str(figure.rows))
            console.print(table)
    _print_failures(console, [f"{item.case_id}: {item.stage}, {item.code}" for item in evaluation.failures])
    console.print(f"{evaluation.studies} studies of {evaluation.patients} patients. Report: {out / REPORT_FILE}")


def _print_failures(console: Console, lines: Sequence[str]) -> None:
    if lines:
        console.print(f"[red]{len(lines)} without a result:[/]")
    for line in lines:
        console.print(f"  {line}", highlight=False)
