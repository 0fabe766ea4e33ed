"""What a sentence rests on, by the facts that it is about."""

from collections.abc import Iterable, Sequence

from trauma_api.schemas.patient import Vitals
from trauma_api.schemas.report import Evidence
from trauma_api.services.facts import Facts
from trauma_api.services.topics import FINDINGS


def evidence_of(topics: Iterable[str], facts: Facts, slices_read: Sequence[int]) -> list[Evidence]:
    """Findings with the slices that they were read from, measurements, inputs; each once."""
    found: list[Evidence] = []
    for topic in topics:
        found += [one for one in _of_topic(topic, facts, slices_read) if one not in found]
    return found


def _of_topic(topic: str, facts: Facts, slices_read: Sequence[int]) -> list[Evidence]:
    if topic in FINDINGS and topic in facts.values:
        return [Evidence(kind="finding", name=topic), *slice_evidence(slices_read)]
    if topic not in facts.stated:
        return []
    match topic:
        case "volume_ml" | "risk_level":
            return [Evidence(kind="measurement", name="volume_ml")]
        case "bloodiest_slice":
            return [Evidence(kind="measurement", name="volume_ml"), *slice_evidence([facts.slots[topic]])]
        case "shock_index":
            return [Evidence(kind="score", name=topic), *inputs_evidence(("heart_rate_bpm", "systolic_mmhg"))]
        case "slice_count":
            return [Evidence(kind="study", name=topic)]
        case _:
            return inputs_evidence([topic] if topic in Vitals.model_fields else [])


def slice_evidence(slices: Iterable[int | str]) -> list[Evidence]:
    """Slices by their index."""
    return [Evidence(kind="slice", name=str(index)) for index in slices]


def inputs_evidence(names: Iterable[str]) -> list[Evidence]:
    """What the caller gave."""
    return [Evidence(kind="input", name=name) for name in names]
