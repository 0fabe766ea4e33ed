"""The scenarios that a phantom can be drawn from, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from trauma_api.phantom.injuries import Blush
from trauma_api.phantom.labels import Label
from trauma_api.phantom.plan import (
    DISTRACTORS,
    CasePlan,
    Distractor,
    draw_acquisition,
    draw_blood_hu,
    draw_blood_ml,
    draw_organ_injury,
    draw_phase,
    draw_pools,
)
from trauma_api.phantom.truth import ExtravasationSite

PlanDrawer = Callable[[np.random.Generator], CasePlan]

SITE_OF_ORGAN: Mapping[Label, ExtravasationSite] = MappingProxyType(
    {
        Label.LIVER: "liver",
        Label.SPLEEN: "spleen",
        Label.LEFT_KIDNEY: "left_kidney",
        Label.RIGHT_KIDNEY: "right_kidney",
    }
)


@dataclass(frozen=True)
class Scenario:
    """A named kind of patient."""

    name: str
    description: str
    plan: PlanDrawer


def _plain(random: np.random.Generator, *distractors: Distractor) -> CasePlan:
    return CasePlan(draw_phase(random), draw_acquisition(random), distractors=distractors)


def _clean(*distractors: Distractor) -> PlanDrawer:
    return lambda random: _plain(random, *distractors)


def _enhanced(random: np.random.Generator) -> CasePlan:
    """A clean plan with contrast, in which active extravasation can be seen."""
    base = _plain(random)
    return replace(base, phase="portal" if random.random() < 0.7 else "arterial", blood_hu=draw_blood_hu(random))


def _organ(*organs: Label, high: bool, blush: Blush = "none", low_ml: float, high_ml: float) -> PlanDrawer:
    """Injuries of one or more organs of the same class, with hemoperitoneum where the organ bleeds into the belly."""

    def plan(random: np.random.Generator) -> CasePlan:
        injuries = {organ: draw_organ_injury(random, organ, high=high, blush=blush) for organ in organs}
        intraperitoneal = tuple(organ for organ in organs if organ in (Label.LIVER, Label.SPLEEN))
        total_ml = draw_blood_ml(random, low_ml, high_ml)
        jets = (
            tuple((SITE_OF_ORGAN[organ], float(random.uniform(7, 15))) for organ in organs) if blush != "none" else ()
        )
        return replace(
            _enhanced(random),
            organs=injuries,
            pools_ml=draw_pools(random, total_ml, intraperitoneal) if intraperitoneal else {},
            retroperitoneal_ml={} if intraperitoneal else {"retroperitoneum": 0.5 * total_ml},
            jets=jets,
        )

    return plan


def _bowel(random: np.random.Generator) -> CasePlan:
    total_ml = draw_blood_ml(random, 15, 250)
    return replace(_enhanced(random), bowel_injury=True, pools_ml=draw_pools(random, total_ml, ()))


def _mesenteric(random: np.random.Generator) -> CasePlan:
    total_ml = draw_blood_ml(random, 60, 900)
    jets: tuple[tuple[ExtravasationSite, float], ...] = (("mesentery", float(random.uniform(7, 15))),)
    return replace(_enhanced(random), pools_ml=draw_pools(random, total_ml, ()), jets=jets)


def _retroperitoneal(random: np.random.Generator) -> CasePlan:
    volume = {"retroperitoneum": draw_blood_ml(random, 60, 500)}
    jets: tuple[tuple[ExtravasationSite, float], ...] = (("retroperitoneum", float(random.uniform(7, 15))),)
    return replace(_enhanced(random), retroperitoneal_ml=volume, jets=jets)  # type: ignore[arg-type]


def _pelvic(random: np.random.Generator) -> CasePlan:
    volume = {"pelvis": draw_blood_ml(random, 60, 500)}
    jets: tuple[tuple[ExtravasationSite, float], ...] = (("pelvis", float(random.uniform(7, 15))),)
    return replace(_enhanced(random), retroperitoneal_ml=volume, jets=jets)  # type: ignore[arg-type]


def _random_clean(random: np.random.Generator) -> CasePlan:
    chosen = random.choice(
        len(DISTRACTORS), size=int(random.choice([0, 1, 2, 3], p=[0.3, 0.4, 0.2, 0.1])), replace=False
    )
    return _plain(random, *(DISTRACTORS[int(index)] for index in chosen))


def _random_organs(random: np.random.Generator) -> CasePlan:
    """One to three injured organs, each low or high by itself; a third bleed actively."""
    chances = {Label.LIVER: 0.48, Label.SPLEEN: 0.5, Label.LEFT_KIDNEY: 0.2, Label.RIGHT_KIDNEY: 0.2}
    organs = [organ for organ, chance in chances.items() if random.random() < chance] or [Label.SPLEEN]
    bleeding = organs[int(random.integers(len(organs)))] if random.random() < 0.3 else None
    injuries, jets = {}, []
    for organ in organs:
        blush: Blush = "none" if organ != bleeding else ("free" if random.random() < 0.5 else "contained")
        high = bool(random.random() < 0.45) or (blush == "free") or (blush == "contained" and organ == Label.SPLEEN)
        injuries[organ] = draw_organ_injury(random, organ, high=high, blush=blush)
        if blush != "none":
            jets.append((SITE_OF_ORGAN[organ], float(random.uniform(7, 15))))
    intraperitoneal = tuple(organ for organ in organs if organ in (Label.LIVER, Label.SPLEEN))
    total_ml = draw_blood_ml(random, 8, 900) if intraperitoneal and random.random() < 0.85 else 0.0
    base = _random_background(random, needs_spleen=True)
    return replace(
        base,
        phase="portal" if jets and base.phase == "none" else base.phase,
        organs=injuries,
        pools_ml=draw_pools(random, total_ml, intraperitoneal) if total_ml else {},
        bowel_injury=bool(random.random() < 0.07),
        jets=tuple(jets),
        blood_hu=draw_blood_hu(random),
    )


def _random_background(random: np.random.Generator, *, needs_spleen: bool) -> CasePlan:
    """A third of the injured have a distractor too; never ascites, with which blood would mix."""
    allowed = [name for name in DISTRACTORS if name != "ascites" and not (needs_spleen and name == "splenectomy")]
    chosen = [allowed[int(random.integers(len(allowed)))]] if random.random() < 0.33 else []
    return _plain(random, *chosen)


def _random_other(random: np.random.Generator) -> CasePlan:
    """Blood without an organ's injury, mostly with active extravasation, or a bowel injury."""
    drawers: tuple[PlanDrawer, ...] = (_mesenteric, _retroperitoneal, _pelvic, _bowel)
    plan = drawers[int(random.choice(4, p=[0.34, 0.2, 0.2, 0.26]))](random)
    if random.random() < 0.25:
        plan = replace(plan, jets=())
    background = _random_background(random, needs_spleen=False)
    return replace(plan, acquisition=background.acquisition, distractors=background.distractors)


def _random(random: np.random.Generator) -> CasePlan:
    """32 % clean, 48 % with injured organs, 20 % with another source."""
    kind = random.random()
    return _random_clean(random) if kind < 0.32 else _random_organs(random) if kind < 0.80 else _random_other(random)


_ALL = (
    Scenario("random", "any patient: 32 in 100 without injury, with what fools a model", _random),
    Scenario("clean", "no injury at all", _clean()),
    Scenario("ascites", "no injury; ascites at the density of water", _clean("ascites")),
    Scenario("full-bladder", "no injury; a full bladder", _clean("full_bladder")),
    Scenario("cysts", "no injury; cysts of liver and kidneys", _clean("cyst")),
    Scenario("unopacified-bowel", "no injury; fluid-filled bowel", _clean("unopacified_bowel")),
    Scenario("fatty-liver", "no injury; a fatty liver", _clean("fatty_liver")),
    Scenario(
        "excreted-contrast", "no injury; contrast in the renal pelves and bright vessels", _clean("excreted_contrast")
    ),
    Scenario("splenectomy", "no injury; the spleen was removed earlier", _clean("splenectomy")),
    Scenario("dissection", "no injury; an aorta with two lumens", _clean("dissection")),
    Scenario("old-hematoma", "no injury; an old hematoma with a calcified rim", _clean("old_hematoma")),
    Scenario("spleen-low", "spleen AAST I to III", _organ(Label.SPLEEN, high=False, low_ml=8, high_ml=120)),
    Scenario(
        "spleen-high", "spleen AAST IV or V without a blush", _organ(Label.SPLEEN, high=True, low_ml=80, high_ml=700)
    ),
    Scenario(
        "spleen-high-blush",
        "spleen AAST V with active bleeding into the belly",
        _organ(Label.SPLEEN, high=True, blush="free", low_ml=150, high_ml=700),
    ),
    Scenario("liver-low", "liver AAST I to III", _organ(Label.LIVER, high=False, low_ml=8, high_ml=120)),
    Scenario("liver-high", "liver AAST IV without a blush", _organ(Label.LIVER, high=True, low_ml=80, high_ml=700)),
    Scenario(
        "liver-high-blush",
        "liver AAST IV with active bleeding into the belly",
        _organ(Label.LIVER, high=True, blush="free", low_ml=120, high_ml=700),
    ),
    Scenario("kidney-low", "left kidney AAST I to III", _organ(Label.LEFT_KIDNEY, high=False, low_ml=8, high_ml=60)),
    Scenario(
        "kidney-high-blush",
        "right kidney AAST IV or V with active bleeding beyond Gerota's fascia",
        _organ(Label.RIGHT_KIDNEY, high=True, blush="free", low_ml=80, high_ml=300),
    ),
    Scenario(
        "liver-and-spleen",
        "liver and spleen both AAST I to III",
        _organ(Label.LIVER, Label.SPLEEN, high=False, low_ml=30, high_ml=250),
    ),
    Scenario("bowel-perforation", "bowel injury: free air, thick wall, mesenteric fluid", _bowel),
    Scenario("mesenteric-bleed", "active mesenteric bleeding without an organ's injury", _mesenteric),
    Scenario("retroperitoneal-bleed", "active retroperitoneal bleeding without an organ's injury", _retroperitoneal),
    Scenario("pelvic-bleed", "active pelvic bleeding without an organ's injury", _pelvic),
)

SCENARIOS: Mapping[str, Scenario] = MappingProxyType({scenario.name: scenario for scenario in _ALL})
