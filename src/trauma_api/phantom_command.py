"""What ``trauma-api phantom`` does: lists the scenarios, and writes phantoms into folders."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from trauma_api.phantom.draw import draw_phantom
from trauma_api.phantom.scenarios import SCENARIOS
from trauma_api.phantom.series import read_truth, write_phantom
from trauma_api.phantom.truth import PhantomTruth


class PhantomCommandError(Exception):
    """What was asked for cannot be written; the text is one sentence for the user."""


def scenario_lines() -> Iterator[str]:
    """Each scenario's name with its description."""
    width = max(map(len, SCENARIOS))
    for scenario in SCENARIOS.values():
        yield f"{scenario.name:{width}}  {scenario.description}"


def write_phantoms(out: Path, scenario: str, seed: int, count: int | None) -> Iterator[str]:
    """Write one phantom into ``out``, or ``count`` of consecutive seeds into folders of it. Yields a line for each.

    A folder that holds this phantom already is kept, so that a run that was interrupted goes on. Raises
    PhantomCommandError for an unknown scenario and for a folder that holds anything else, OSError where it cannot be
    written.
    """
    if scenario not in SCENARIOS:
        raise PhantomCommandError(f"There is no scenario of that name; there are {', '.join(SCENARIOS)}.")
    for number in range(seed, seed + (count or 1)):
        folder = out if count is None else out / f"phantom-{number:06d}"
        if folder.exists() and any(folder.iterdir()):
            truth = _kept(folder, scenario, number)
        else:
            truth = _write(folder.resolve(), scenario, number)
        yield f"{folder}: {_describe(truth)}"


def _write(folder: Path, scenario: str, seed: int) -> PhantomTruth:
    """Under another name first, so that a folder of its name is whole."""
    partial = folder.with_name(f"{folder.name}.part")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    phantom = draw_phantom(seed, scenario)
    write_phantom(phantom, partial)
    partial.rename(folder)
    return phantom.truth


def _kept(folder: Path, scenario: str, seed: int) -> PhantomTruth:
    other = PhantomCommandError(f"{folder} holds something else; name a new folder.")
    try:
        truth = read_truth(folder)
    except (FileNotFoundError, ValueError) as error:
        raise other from error
    if (truth.scenario, truth.seed) != (scenario, seed):
        raise other
    return truth


def _describe(truth: PhantomTruth) -> str:
    organs = {"liver": truth.liver, "spleen": truth.spleen, "kidneys": truth.kidneys}
    parts = [f"{name} AAST {organ.aast}" for name, organ in organs.items() if organ.aast > 0]
    parts += ["bowel injury"] * truth.bowel_injury
    parts += [f"active extravasation ({site.site.replace('_', ' ')})" for site in truth.extravasation_sites]
    injuries = ", ".join(parts) or "no injury of an organ"
    return f"{truth.slice_count} slices, phase {truth.phase}, {truth.total_ml:.1f} mL of blood, {injuries}"
