"""Structured logs: one JSON object a line, named events, ids and numbers only. Never a patient's data."""

import json
import logging
import sys
import warnings

import structlog

# These libraries write what they handle: pydicom attribute values, sse-starlette and httpx the content of streams and
# URLs. They are cut off at any level that our own log is set to.
_TALKATIVE = (
    "pydicom",
    "sse_starlette",
    "httpx",
    "httpcore",
    "multipart",
    "python_multipart",
    "nibabel",
    "PIL",
    "bitsandbytes",
    "uvicorn.access",
)


class _NameOnlyFormatter(logging.Formatter):
    """What a library has to say may quote a file or a request: only that it spoke is written."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"event": "library", "logger": record.name, "level": record.levelname.lower()})


def configure_logging(level: str) -> None:
    """Send all logs to standard error as JSON lines from ``level`` up."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_NameOnlyFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"pydicom|nibabel|PIL")


def get_logger() -> structlog.stdlib.BoundLogger:
    """The logger; bind ids to it, nothing else."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger
