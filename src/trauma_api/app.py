"""The application: wiring only. The service hangs on ``app.state.container`` while the lifespan runs."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from sse_starlette.sse import AppStatus

from trauma_api import __version__
from trauma_api.dependencies import require_api_key
from trauma_api.error_handlers import install_error_handlers
from trauma_api.log import configure_logging, get_logger
from trauma_api.middleware import BodyLimitMiddleware, RequestIdMiddleware
from trauma_api.openapi import DESCRIPTION, TAGS, build_openapi
from trauma_api.routers import (
    analysis,
    briefings,
    capabilities,
    health,
    models,
    report,
    report_files,
    sessions,
    studies,
    triage,
    volume,
)
from trauma_api.settings import Settings

if TYPE_CHECKING:
    from trauma_api.container import Container, Engines

EXIT_POLL_S = 0.1
DEVICE_LOST = "The device that the models run on has failed. Start the service again."

logger = get_logger()


def create_app(settings: Settings | None = None, engines: "Engines | None" = None) -> FastAPI:
    """The application. ``engines`` stands in for loading the checkpoints that the settings name."""
    settings = settings or Settings()
    configure_logging(settings.log_level)
    app = FastAPI(
        title="trauma-api",
        version=__version__,
        summary="AI on abdominal trauma CT. Research use only.",
        description=DESCRIPTION,
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        lifespan=lambda app: _lifespan(app, settings, engines),
    )
    app.add_middleware(
        BodyLimitMiddleware, max_json_bytes=settings.max_json_bytes, max_upload_bytes=settings.max_upload_bytes
    )
    app.add_middleware(RequestIdMiddleware)
    install_error_handlers(app)
    for part in (
        studies,
        briefings,
        report_files,
        sessions,
        triage,
        analysis,
        volume,
        report,
        models,
        capabilities,
    ):
        app.include_router(part.router, dependencies=[Depends(require_api_key)])
    app.include_router(health.router)
    _serve_docs(app)
    app.openapi = lambda: build_openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def _serve_docs(app: FastAPI) -> None:
    """Swagger UI with its files from the installation: hospital networks reach no CDN."""
    app.mount("/docs/assets", StaticFiles(directory=str(files("fastapi_offline") / "static")))

    @app.get("/docs", include_in_schema=False)
    async def show_docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="trauma-api",
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon.png",
            swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True, "docExpansion": "list"},
        )

    @app.get("/", include_in_schema=False)
    async def go_to_docs() -> RedirectResponse:
        return RedirectResponse("/docs")


@asynccontextmanager
async def _lifespan(app: FastAPI, settings: Settings, engines: "Engines | None") -> AsyncIterator[None]:
    # Imported here: describing the API must load neither torch nor redis.
    from trauma_api.container import StartError, open_container

    async with AsyncExitStack() as stack:
        try:
            container = await stack.enter_async_context(open_container(settings, engines))
        except StartError as error:
            app.state.start_error = str(error)
            logger.error("service.not_started", reason=str(error))  # noqa: TRY400  # the sentence is the message
            raise
        app.state.container = container
        watcher = asyncio.create_task(_drain_on_exit(app, container))
        logger.info("service.started", profile=settings.profile, version=__version__)
        yield
        watcher.cancel()
        container.drain()
        logger.info("service.stopping")


async def _drain_on_exit(app: FastAPI, container: "Container") -> None:
    """Drain as soon as the server is asked to stop: it waits for open streams, which would otherwise go on.

    A lost device ends the service in the same way, as only a new process can use it again.
    """
    # a signal handler sets the flag, and only the flag
    while not (AppStatus.should_exit or container.watch.device_lost):  # noqa: ASYNC110
        await asyncio.sleep(EXIT_POLL_S)
    container.drain()
    if container.watch.device_lost:
        app.state.end_error = DEVICE_LOST
        _ask_to_stop()


def _ask_to_stop() -> None:
    """Signal this process. A server in another thread takes no signals, and the process is not its own to end.

    Not SIGTERM: uvicorn raises the signal that stopped it again at its end, and that one would set the exit status.
    """
    if threading.current_thread() is threading.main_thread():
        signal.raise_signal(signal.SIGINT)
