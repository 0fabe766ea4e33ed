"""The hemodynamic status: given by the team at the bedside, or unstable by a published definition.

The definition is that of the WSES classification of splenic trauma (2017, table 3, note a), for adults. Used are the
parts that vital signs can show. Its other parts (cold skin, breathlessness, need of boluses, vasopressors or
transfusion) are not in them. Three readings are this project's:

- an altered level of consciousness is a GCS below 15;
- shock index and base excess, which the note lists for a pressure above 90 mmHg, count at a lower one all the more;
- a base excess beyond -5 mmol/L at a pressure of 90 mmHg or more derives nothing by itself, though the note lets it:
  acidosis has other causes than bleeding, and the status sends patients to the operating room.

Vitals that do not meet it are not stable: bleeding patients may hold their pressure for long. The status then stays
unknown and is asked for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from trauma_api.guidelines.sources import WSES_SPLEEN_2017, Source

Status = Literal["stable", "transient_responder", "unstable", "unknown"]

_ADULT_FROM_YEARS = 18
_LOW_SYSTOLIC_MMHG, _NORMAL_GCS, _BASE_DEFICIT_MMOL_L = 90.0, 15.0, 5.0


@dataclass(frozen=True)
class HemodynamicStatus:
    """A status and where it comes from. Definition, source and inputs (``name=value``) are those of a derived one."""

    status: Status
    origin: Literal["given", "derived", "unknown"]
    definition: str | None = None
    source: Source | None = None
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Criterion:
    words: str
    inputs: tuple[str, ...]


_LOW_AND_DROWSY = _Criterion(
    "systolic pressure below 90 mmHg with an altered level of consciousness (read here as a GCS below 15)",
    ("systolic_mmhg", "gcs"),
)
_LOW_AND_ACIDOTIC = _Criterion(
    "systolic pressure below 90 mmHg with a base excess beyond -5 mmol/L", ("systolic_mmhg", "base_deficit_mmol_l")
)
_SHOCK_INDEX = _Criterion(
    "shock index above 1 (heart rate above systolic pressure), whatever the pressure",
    ("heart_rate_bpm", "systolic_mmhg"),
)


def hemodynamic_status(given: Status, vitals: Mapping[str, float], age_years: float | None) -> HemodynamicStatus:
    """The given status; where it is unknown, ``unstable`` if the known vitals of an adult meet the definition.

    A patient of unknown age counts as an adult. Vital signs of children are judged by their age and derive nothing.
    """
    if given != "unknown":
        return HemodynamicStatus(given, "given")
    child = age_years is not None and age_years < _ADULT_FROM_YEARS
    met = () if child else tuple(_met(vitals))
    if not met:
        return HemodynamicStatus("unknown", "unknown")
    used = {name for criterion in met for name in criterion.inputs}
    return HemodynamicStatus(
        status="unstable",
        origin="derived",
        definition=f"Hemodynamic instability of an adult: {'; or '.join(criterion.words for criterion in met)}.",
        source=WSES_SPLEEN_2017,
        inputs=tuple(f"{name}={value:g}" for name, value in vitals.items() if name in used),
    )


def _met(vitals: Mapping[str, float]) -> Iterator[_Criterion]:
    systolic = vitals.get("systolic_mmhg")
    if systolic is None:
        return
    if systolic < _LOW_SYSTOLIC_MMHG:
        if vitals.get("gcs", _NORMAL_GCS) < _NORMAL_GCS:
            yield _LOW_AND_DROWSY
        if vitals.get("base_deficit_mmol_l", 0.0) > _BASE_DEFICIT_MMOL_L:
            yield _LOW_AND_ACIDOTIC
    if vitals.get("heart_rate_bpm", 0.0) > systolic:
        yield _SHOCK_INDEX
