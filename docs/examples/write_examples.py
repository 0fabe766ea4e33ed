"""Writes the example reports anew: draws phantoms, briefs them over HTTP, and keeps JSON, Markdown and PDF.

    make examples

Ids, times and durations differ from run to run; they are left out of the JSON.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from trauma_api.cli import private_server
from trauma_api.phantom.draw import draw_phantom
from trauma_api.phantom.series import write_slices
from trauma_api.settings import Settings

HERE = Path(__file__).parent
BRIEFING_S = 600.0


@dataclass(frozen=True)
class Example:
    """A phantom, and what the team at the bedside knows."""

    name: str
    scenario: str
    seed: int
    vitals: dict[str, float]
    context: dict[str, Any]


EXAMPLES = (
    Example(
        "clean",
        "clean",
        100_500,
        {"heart_rate_bpm": 82, "systolic_mmhg": 128, "diastolic_mmhg": 76, "gcs": 15, "hemoglobin_g_dl": 13.8},
        {"mechanism": "blunt", "hemodynamic_status": "stable", "peritonitis": "absent", "fast": "negative"},
    ),
    Example(
        "stable-high-grade-spleen",
        "spleen-high-blush",
        100_501,
        {"heart_rate_bpm": 96, "systolic_mmhg": 118, "lactate_mmol_l": 2.4, "base_deficit_mmol_l": 3},
        {
            "mechanism": "blunt",
            "hemodynamic_status": "stable",
            "peritonitis": "absent",
            "fast": "positive",
            "age_years": 37,
            "anticoagulated": False,
        },
    ),
    Example(
        "unstable-unknown-peritonitis",
        "spleen-high-blush",
        100_502,
        {"heart_rate_bpm": 132, "systolic_mmhg": 78, "gcs": 13, "lactate_mmol_l": 6.1, "base_deficit_mmol_l": 9},
        {"mechanism": "blunt", "hemodynamic_status": "unstable", "peritonitis": "unknown", "fast": "positive"},
    ),
)


def brief(client: httpx.Client, example: Example) -> dict[str, Any]:
    """Draw, upload and brief."""
    with tempfile.TemporaryDirectory() as folder:
        write_slices(draw_phantom(example.seed, example.scenario), Path(folder))
        files = [
            ("files", (str(number), path.read_bytes(), "application/dicom"))
            for number, path in enumerate(sorted(Path(folder).glob("*.dcm")))
        ]
    study = client.post("/v1/studies", files=files).raise_for_status().json()
    body = {"study_id": study["study_id"], "vitals": example.vitals, "clinical_context": example.context}
    briefing = client.post("/v1/briefings", json=body).raise_for_status().json()
    while briefing["status"] not in ("done", "failed", "cancelled"):
        briefing = client.get(briefing["links"]["self_url"], params={"wait": 30}).raise_for_status().json()
    if briefing["status"] != "done":
        raise RuntimeError(f"{example.name} ended as {briefing['status']}")
    ended: dict[str, Any] = briefing
    return ended


def lasting(report: dict[str, Any]) -> dict[str, Any]:
    """The report without what differs from run to run."""
    models = [{**model, "duration_s": 0.0} for model in report["provenance"]]
    return {**report, "provenance": models}


def main() -> None:
    settings = Settings(host="127.0.0.1", port=0, log_level="ERROR")
    with private_server(settings) as url, httpx.Client(base_url=url, timeout=BRIEFING_S) as client:
        for example in EXAMPLES:
            briefing = brief(client, example)
            report = lasting(briefing["parts"]["report"]["result"])
            out = HERE / example.name
            out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            for suffix, link in ((".md", "report_markdown_url"), (".pdf", "report_pdf_url")):
                content = client.get(briefing["links"][link]).raise_for_status().content
                out.with_suffix(suffix).write_bytes(content)


if __name__ == "__main__":
    main()
