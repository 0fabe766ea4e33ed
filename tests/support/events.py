"""Reading server-sent events."""

import json
from collections.abc import Iterator
from typing import Any


def parse_events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    """(event, payload, id) of each server-sent event."""
    name, event_id = "", None
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "id":
            event_id = value
        elif field == "data":
            yield name, json.loads(value), event_id
            event_id = None
