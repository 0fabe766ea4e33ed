"""This service's compute against a plain sequential baseline, on the same weights and inputs, in one run.

    python benchmarks/compute.py [--repeats N] [--only NAME ...] [--json FILE] [--folder FOLDER]

Prints a Markdown table and ends with an error that names the rows that fall short of their goals. Times are medians of
repeats after a run that warms both sides up and whose results are compared; those of ``together`` are of the pair of
runs whose ratio is the median. What each side does is in ``baseline.py``
and in the modules of the rows, ``compute_cases.py`` and ``compute_service.py``.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import anyio
import torch

from compute_cases import first_token, segmentation_of_study, triage_of_large_shape, triage_of_study
from compute_inputs import Inputs, cpu_settings, inputs_in
from compute_service import briefing_of_sample, four_briefings_and_twenty_questions
from measuring import Row, versions
from trauma_api.log import configure_logging

CASES: Mapping[str, Callable[[Inputs, int], Awaitable[Row]]] = MappingProxyType(
    {
        "triage-large": triage_of_large_shape,
        "triage-study": triage_of_study,
        "first-token": first_token,
        "segmentation-study": segmentation_of_study,
        "briefing": briefing_of_sample,
        "together": four_briefings_and_twenty_questions,
    }
)
HEAD = (
    "| what | baseline | service | times as fast | goal | reached | agreement |",
    "|---|---|---|---|---|---|---|",
)
UNITS = ("avx512_f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def main() -> None:
    """Run, print a Markdown table, and end with an error where a goal is not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--folder", type=Path, help="keep studies and random checkpoints here for the next run")
    parser.add_argument("--slices", type=int, default=200, help="of the study that is called whole; fewer to try out")
    arguments = parser.parse_args()
    configure_logging("ERROR")
    with inputs_in(arguments.folder, arguments.slices) as inputs:
        print("\n".join([*machine(), "", *HEAD]), flush=True)
        rows = []
        for name in arguments.only:
            rows.append(anyio.run(CASES[name], inputs, arguments.repeats))
            print(line(rows[-1]), flush=True)
    if arguments.json:
        found = [{**asdict(row), "times_as_fast": row.times_as_fast, "reached": row.reached} for row in rows]
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": found}, indent=2) + "\n", encoding="utf-8")
    if short := [row.name for row in rows if not row.reached]:
        sys.exit(f"Short of their goals: {', '.join(short)}")


def machine() -> list[str]:
    """What it was measured on."""
    capabilities = torch.cpu.get_capabilities()
    units = ", ".join(f"{name} {'yes' if capabilities.get(name) else 'no'}" for name in UNITS)
    permits = cpu_settings().gate_permits
    cores = len(os.sched_getaffinity(0))
    return [
        f"{capabilities.get('cpu_name', platform.machine())}, {cores} cores; {units}; {versions()}.",
        f"Baseline: float32, {cores} threads. Service: {permits} model calls at once, precision as stated by its rows.",
    ]


def line(row: Row) -> str:
    """A row of the table."""
    return (
        f"| {row.what} | {row.baseline_s:.2f} s | {row.service_s:.2f} s | {row.times_as_fast:.2f} | {row.goal:g} "
        f"| {'yes' if row.reached else 'no'} | {row.agreement} |"
    )


if __name__ == "__main__":
    main()
