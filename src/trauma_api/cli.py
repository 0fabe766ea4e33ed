"""The command line: ``trauma-api serve | analyze | phantom | evaluate | openapi | check``."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
import uvicorn
from pydantic import ValidationError
from rich.console import Console

from trauma_api.app import create_app
from trauma_api.client import ReportForm, RequestFailedError, ServiceClient
from trauma_api.log import configure_logging
from trauma_api.schemas.base import SAMPLE_ID
from trauma_api.schemas.briefings import Briefing, BriefingRequest
from trauma_api.schemas.patient import Vitals
from trauma_api.schemas.studies import Study
from trauma_api.settings import Settings
from trauma_api.terminal import show_briefing, show_progress

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From an abdominal trauma CT to a structured briefing. Research use only.",
)

GRACEFUL_SHUTDOWN_S = 8

VITAL_NAMES = {
    "hr": "heart_rate_bpm",
    "sbp": "systolic_mmhg",
    "dbp": "diastolic_mmhg",
    "rr": "respiratory_rate_bpm",
    "gcs": "gcs",
    "temp": "temperature_c",
    "lactate": "lactate_mmol_l",
    "bd": "base_deficit_mmol_l",
    "hb": "hemoglobin_g_dl",
}

EXIT_UNUSABLE = 1
EXIT_MISUSED = 2


def _stop(sentence: str, code: int = EXIT_UNUSABLE) -> typer.Exit:
    typer.echo(sentence, err=True)
    return typer.Exit(code)


def _settings(**overrides: Any) -> Settings:
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}" for item in error.errors())
        raise _stop(f"The configuration is not valid: {faults}", EXIT_MISUSED) from error


def _server(settings: Settings) -> uvicorn.Server:
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
    )
    return uvicorn.Server(config)


def _start_failure(server: uvicorn.Server) -> str:
    state = server.config.app.state  # type: ignore[union-attr]  # it is the application that we passed in
    return str(getattr(state, "start_error", "The service could not start: is its port in use? See its log."))


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind to.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    with_sample: Annotated[bool, typer.Option("--with-sample", help="Brief the sample study once started.")] = False,
) -> None:
    """Start the service and keep serving."""
    settings = _settings(host=host, port=port)
    server = _server(settings)
    if with_sample:
        threading.Thread(target=_brief_sample, args=(server, settings), daemon=True).start()
    with suppress(SystemExit, KeyboardInterrupt):  # uvicorn's way of saying that it did not start, or was asked to stop
        server.run()
    if not server.started:
        raise _stop(_start_failure(server))
    end_error = getattr(server.config.app.state, "end_error", None)  # type: ignore[union-attr]  # our application
    if end_error is not None:
        raise _stop(end_error)


@app.command()
def analyze(
    path: Annotated[Path, typer.Argument(help="Folder, ZIP, DICOM or NIfTI file, or picture.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the briefing as JSON.")] = False,
    vitals: Annotated[str, typer.Option(help=f"As hr=128,sbp=84,gcs=13; names: {', '.join(VITAL_NAMES)}.")] = "",
    report: Annotated[
        Path | None, typer.Option(help="Write the report here as well, as .txt, .md, .pdf or .json.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="URL of a running service; none: start one for this study.")
    ] = None,
) -> None:
    """Brief one study and print the result."""
    known = _parse_vitals(vitals)
    if report is not None and report.suffix not in get_args(ReportForm):
        raise _stop(f"--report takes a file that ends in {', '.join(get_args(ReportForm))}.", EXIT_MISUSED)
    wanted = _Wanted(known, report, as_json=as_json)
    if not path.exists():
        raise _stop("There is no such file or folder.", EXIT_MISUSED)
    console = Console(stderr=True)
    if server is not None:
        _analyze_at(server, _settings(), path, wanted, console)
        return
    settings = _settings(host="127.0.0.1", port=0, log_level="ERROR")
    console.print("Loading models ...")
    with private_server(settings) as base_url:
        _analyze_at(base_url, settings, path, wanted, console)


@app.command()
def phantom(
    out: Annotated[Path | None, typer.Argument(help="Folder to write into; made when absent.")] = None,
    scenario: Annotated[str, typer.Option(help="What to draw; --list tells what there is.")] = "random",
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another patient.")] = 7,
    count: Annotated[int | None, typer.Option(min=1, help="Write as many, of consecutive seeds, each in OUT.")] = None,
    list_scenarios: Annotated[bool, typer.Option("--list", help="List the scenarios and write nothing.")] = False,
) -> None:
    """Write a synthetic trauma CT as a DICOM series, with its truth beside it."""
    # Imported here: the other commands draw nothing.
    from trauma_api.phantom_command import PhantomCommandError, scenario_lines, write_phantoms

    if list_scenarios:
        typer.echo("\n".join(scenario_lines()))
        return
    if out is None:
        raise _stop("Name the folder to write into.", EXIT_MISUSED)
    try:
        for line in write_phantoms(out, scenario, seed, count):
            typer.echo(line)
    except PhantomCommandError as error:
        raise _stop(str(error), EXIT_MISUSED) from error
    except OSError as error:
        raise _stop(f"The phantom cannot be written: {error.strerror}.") from error


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(help="Studies with truth: phantoms, or data as RSNA 2023 lays it out.")],
    out: Annotated[Path, typer.Option(help="Where results go; a rerun goes on there.")] = Path("evaluation"),
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many studies.")] = None,
    stages: Annotated[str, typer.Option(help="Only these, as triage,reading,volume.")] = "triage,reading,volume,report",
    slice_budget: Annotated[int | None, typer.Option(min=1, max=85, help="Slices that are read together.")] = None,
    ablation: Annotated[bool, typer.Option(help="Read evenly spaced slices as well, to compare.")] = True,
    questions: Annotated[int, typer.Option(min=0, help="Questions of fact to ask, spread over the studies.")] = 0,
) -> None:
    """Measure the service on studies whose truth is known. Resumes."""
    settings = _settings(slice_budget=slice_budget)
    # Imported here: the other commands need neither the services nor what measures them.
    from trauma_api.container import StartError
    from trauma_api.evaluation.campaign import Request
    from trauma_api.evaluation.cases import FolderError
    from trauma_api.evaluation.command import parse_parts, run_command

    try:
        request = Request(folder, out, parse_parts(stages), ablation=ablation, limit=limit, questions=questions)
        run_command(settings, request)
    except (FolderError, ValueError) as error:
        raise _stop(str(error), EXIT_MISUSED) from error
    except StartError as error:
        raise _stop(str(error)) from error


@app.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    typer.echo(json.dumps(create_app(_settings()).openapi(), indent=2, ensure_ascii=False))


@app.command()
def check() -> None:
    """Validate the configuration and load the checkpoints; start nothing."""
    settings = _settings()
    configure_logging(settings.log_level)
    # Imported here: the other commands that need no model must not load torch.
    from trauma_api.container import StartError, load_engines

    try:
        engines = load_engines(settings)
    except StartError as error:
        raise _stop(str(error)) from error
    for info in (engines.triage.info, engines.reader.info, engines.segmenter.info):
        typer.echo(
            f"{info.role}: {info.checkpoint} ({info.architecture}), trained on: {info.trained_on}, on {info.device}"
        )
    typer.echo("Configuration and checkpoints are valid.")


def _parse_vitals(text: str) -> Vitals | None:
    if not text:
        return None
    try:
        pairs = [item.split("=") for item in text.split(",")]
        return Vitals.model_validate({VITAL_NAMES[name.strip()]: value for name, value in pairs}, strict=False)
    except (KeyError, ValueError) as error:
        raise _stop(
            f"--vitals is not valid: write it as hr=128,sbp=84,gcs=13, with names of {', '.join(VITAL_NAMES)} and "
            "values that a patient can have.",
            EXIT_MISUSED,
        ) from error


@contextmanager
def private_server(settings: Settings) -> Iterator[str]:
    """A service of our own on a free loopback port."""
    server = _server(settings)
    thread = threading.Thread(target=_run_quietly, args=(server,), daemon=True)
    thread.start()
    if not _wait_until_started(server, thread):
        raise _stop(_start_failure(server))
    try:
        yield _base_url(server, settings)
    finally:
        server.should_exit = True
        thread.join(GRACEFUL_SHUTDOWN_S + 5)


def _run_quietly(server: uvicorn.Server) -> None:
    with suppress(SystemExit):  # uvicorn's way of saying that it did not start
        server.run()


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread | None) -> bool:
    while not server.started:
        if (thread is not None and not thread.is_alive()) or server.should_exit:
            return False
        time.sleep(0.05)
    return True


def _base_url(server: uvicorn.Server, settings: Settings) -> str:
    port = server.servers[0].sockets[0].getsockname()[1]
    host = settings.host if settings.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104  # a client cannot connect to "any"
    return f"http://{host}:{port}"


@dataclass(frozen=True)
class _Wanted:
    """What ``analyze`` was told."""

    vitals: Vitals | None
    report: Path | None
    as_json: bool


def _analyze_at(base_url: str, settings: Settings, path: Path, wanted: _Wanted, console: Console) -> None:
    key = next(iter(settings.api_key_list), None)
    try:
        with ServiceClient(base_url, key) as client:
            console.print("Reading the study ...")
            study = client.upload(path)
            briefing = _run_briefing(client, study.study_id, wanted.vitals, console)
            if wanted.report is not None:
                wanted.report.write_bytes(client.get_report(briefing, cast("ReportForm", wanted.report.suffix)))
    except RequestFailedError as error:
        raise _stop(str(error)) from error
    except OSError as error:
        raise _stop(f"The report cannot be written: {error.strerror}.") from error
    if wanted.as_json:
        typer.echo(briefing.model_dump_json(indent=2))
    else:
        show_briefing(Console(), study, briefing, None)
    if briefing.status != "done":
        raise typer.Exit(EXIT_UNUSABLE)


def _run_briefing(client: ServiceClient, study_id: str, vitals: Vitals | None, console: Console) -> Briefing:
    briefing = client.start_briefing(BriefingRequest(study_id=study_id, vitals=vitals))
    show_progress(console, client.follow(briefing))
    return client.get_briefing(briefing.briefing_id)


def _brief_sample(server: uvicorn.Server, settings: Settings) -> None:
    console = Console()
    if not _wait_until_started(server, None):
        return
    base_url = _base_url(server, settings)
    console.print(f"trauma-api is listening on {base_url}. Briefing the sample study, a synthetic phantom.")
    try:
        with ServiceClient(base_url, next(iter(settings.api_key_list), None)) as client:
            study: Study = client.describe_study(SAMPLE_ID)
            vitals = Vitals(heart_rate_bpm=118, systolic_mmhg=96, gcs=14)
            briefing = _run_briefing(client, SAMPLE_ID, vitals, console)
        show_briefing(console, study, briefing, base_url, needs_key=bool(settings.api_key_list))
    except RequestFailedError as error:
        console.print(f"[red]The sample was not briefed:[/] {error}")
    console.print("Serving. Stop with Ctrl-C.")
