"""What the reader is to write into the form of a phantom."""

from trauma_api.phantom.truth import PhantomTruth

_GRADES = {"healthy": "none", "low": "low_grade", "high": "high_grade"}
_SEEN = {True: "present", False: "absent", None: "not_assessed"}
_INJURIES = {"liver": "liver laceration", "spleen": "splenic laceration", "kidneys": "renal laceration"}


def form_values(truth: PhantomTruth) -> dict[str, str]:
    """The value of each closed field of the form, in its order."""
    organs = {"liver": truth.liver, "spleen": truth.spleen, "kidneys": truth.kidneys}
    return {
        **{name: _GRADES[organ.rsna] for name, organ in organs.items()},
        "bowel_and_mesentery": _SEEN[truth.bowel_injury],
        "active_extravasation": _SEEN[truth.extravasation],
        "hemoperitoneum": truth.hemoperitoneum,
        "injury_pattern": _pattern(truth),
        "severity": severity(truth),
    }


def _pattern(truth: PhantomTruth) -> str:
    injured = sum(organ.aast > 0 for organ in (truth.liver, truth.spleen, truth.kidneys)) + truth.bowel_injury
    if injured:
        return "isolated_organ" if injured == 1 else "multiple_organs"
    return "bleeding_without_organ_injury" if truth.any_injury else "no_injury"


def severity(truth: PhantomTruth) -> str:
    """By rule, from what the form itself holds, so that it never contradicts the other fields.

    critical: bleeds actively from, or beside, a high-grade injury. severe: one of the two, or a large hemoperitoneum.
    moderate: a moderate hemoperitoneum, or a bowel injury. mild: anything less. none: nothing at all.
    """
    bleeds = bool(truth.extravasation)
    high = "high" in (truth.liver.rsna, truth.spleen.rsna, truth.kidneys.rsna)
    if not truth.any_injury:
        return "none"
    if bleeds and high:
        return "critical"
    if bleeds or high or truth.hemoperitoneum == "large":
        return "severe"
    return "moderate" if truth.hemoperitoneum == "moderate" or truth.bowel_injury else "mild"


def free_texts(truth: PhantomTruth) -> tuple[str, list[str]]:
    """The description of the bleeding, and the differentials."""
    injuries = [words for name, words in _INJURIES.items() if getattr(truth, name).aast > 0]
    if truth.bowel_injury:
        injuries.append("bowel or mesenteric tear")
    if not injuries and truth.any_injury:
        injuries.append("mesenteric or vascular injury")
    return _bleeding(truth), injuries


def _bleeding(truth: PhantomTruth) -> str:
    if truth.extravasation:
        sites = sorted({site.site.replace("_", " ") for site in truth.extravasation_sites})
        where = " and ".join(sites[:2])
        return f"active extravasation, {where}" if where else "active extravasation"
    if truth.hemoperitoneum != "none":
        return f"{truth.hemoperitoneum} hemoperitoneum without active extravasation"
    return "blood outside the peritoneum" if truth.total_ml > 0 else "no bleeding is seen"
