"""Twins of phantoms that bleed, with active extravasation painted into their pictures, for the reader.

    python training/painted_twins.py --set build/phantom_set --out build/phantom_twins --share 0.5

What differs between a phantom and its twin is the jet alone. A twin holds its truth and what the tower saw of it
(`reader_eyes.write_features`), and no pictures. Phantoms without contrast, with jets of their own or without blood have
none.
"""

import argparse
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from painted_jets import BLOOD_GROUPS, LACERATION_GROUP, SIZE_MM, levels_of, pictures_hu, soft_blood
from reader_eyes import Eyes, write_features
from trauma_api.engines.device import silence_libraries
from trauma_api.phantom.bleeding import AROUND_JET_MM, jet_beads, jet_hu
from trauma_api.phantom.injuries import HEMATOMA_HU
from trauma_api.phantom.shapes import Bead
from trauma_api.phantom.truth import TRUTH_FILE, ExtravasationTruth, PhantomTruth
from trauma_api.settings import PACKAGED_CHECKPOINTS

BUILD = Path(__file__).parents[1] / "build"
_LEAST_ML, _LEAST_PIXELS, _LEAST_JET_ML, _TRIES = 5.0, 3.0, 0.4, 8
_SITES = {9: "mesentery", 10: "retroperitoneum"}
_ORGANS = ("liver", "spleen", "kidneys")
_PIXEL_MM = (1.6, 2.0)
"""Pictures of 224 pixels do not state how large theirs are."""


class Jet(NamedTuple):
    """``beads`` in mm of x, y and z from the first pixel; ``organ`` is the group whose tissue it tears, if any."""

    beads: list[Bead]
    pixel_mm: float
    margin_mm: float
    hu: float
    torn_hu: float
    organ: int | None


def twin_of(
    rgb: NDArray[np.uint8], patches: NDArray[np.uint8], truth: PhantomTruth, draw: np.random.Generator
) -> tuple[NDArray[np.uint8], PhantomTruth] | None:
    """Pictures and truth of the twin; None where no room is found."""
    for _ in range(_TRIES):
        organ, places = _room(patches, truth, draw)
        if not len(places):
            continue
        place = places[draw.integers(len(places))]
        jet = _jet_at(place, rgb.shape[1] // patches.shape[1], truth, organ, draw)
        new, shown, volume_ml = _painted(rgb, patches, jet, truth.spacing_zyx_mm[0])
        if volume_ml >= _LEAST_JET_ML:
            site = _site(patches[tuple(place)], truth, organ)
            return new, _with_jet(truth, shown, site, place, volume_ml, jet.hu)
    return None


def can_have_twin(truth: PhantomTruth) -> bool:
    """Whether a jet would show in it, and it has none."""
    return truth.phase != "none" and not truth.extravasation_sites and truth.total_ml >= _LEAST_ML


def _room(
    patches: NDArray[np.uint8], truth: PhantomTruth, draw: np.random.Generator
) -> tuple[int | None, NDArray[np.int64]]:
    """Patches (slice, row, column) of an injured organ, or of blood."""
    slices = sorted(truth.slices, key=lambda one: one.slice_index)
    torn = [organ for organ, name in enumerate(_ORGANS) if getattr(truth, name).aast > 0]
    if not torn or draw.random() >= 0.5:
        return None, np.argwhere(patches[..., BLOOD_GROUPS].astype(np.float32).sum(axis=-1) >= 128)
    organ = int(draw.choice(torn))
    shown = np.array([getattr(one, _ORGANS[organ]) for one in slices])
    return organ, np.argwhere((patches[..., organ] >= 230) & shown[:, None, None])


def _jet_at(
    place: NDArray[np.int64], side: int, truth: PhantomTruth, organ: int | None, draw: np.random.Generator
) -> Jet:
    if truth.aorta_hu is None:
        raise ValueError("a phantom without an aorta's HU has no jet")
    pixel_mm, size_mm, margin_mm = draw.uniform(*_PIXEL_MM), draw.uniform(*SIZE_MM), draw.uniform(*AROUND_JET_MM)
    y, x = ((place[1:] * side + draw.uniform(0, side, 2)) * pixel_mm).tolist()
    beads = jet_beads((x, y, float(place[0] * truth.spacing_zyx_mm[0])), size_mm, draw)
    return Jet(beads, pixel_mm, margin_mm, jet_hu(truth.aorta_hu, draw), float(draw.uniform(*HEMATOMA_HU)), organ)


def _painted(
    rgb: NDArray[np.uint8], patches: NDArray[np.uint8], jet: Jet, slice_mm: float
) -> tuple[NDArray[np.uint8], list[int], float]:
    """New pictures, the slices that show the jet, and its mL."""
    new, shown, pixels = rgb.copy(), [], 0.0
    for index in range(len(rgb)):
        filled = _cut(jet, index * slice_mm, slice_mm, rgb.shape[1], 0.0)
        around = _cut(jet, index * slice_mm, slice_mm, rgb.shape[1], jet.margin_mm)
        if not around.any():
            continue
        hu = pictures_hu(rgb[index])
        torn = None if jet.organ is None else around * _organ_of(patches[index], jet.organ, rgb.shape[1])
        if torn is not None:
            hu = hu + torn * np.minimum(jet.torn_hu - ndimage.uniform_filter(hu, 3, mode="nearest"), 0.0)
        smooth = ndimage.uniform_filter(hu, 3, mode="nearest")
        filled = filled * (soft_blood(smooth, patches[index]) if torn is None else torn > 0.5)
        if filled.sum() >= _LEAST_PIXELS:
            shown.append(index)
            pixels += float(filled.sum())
            hu = hu + filled * np.maximum(jet.hu - smooth, 0.0)
        levels_of(new[index], hu, filled > 0 if torn is None else around > 0)
    return new, shown, pixels * jet.pixel_mm**2 * slice_mm / 1000.0


def _organ_of(patches: NDArray[np.uint8], organ: int, rows: int) -> NDArray[np.bool_]:
    side = rows // len(patches)
    inside = patches[..., (organ, LACERATION_GROUP)].astype(np.int64).sum(axis=-1) >= 100
    return np.kron(inside, np.ones((side, side), bool))


def _cut(jet: Jet, z_mm: float, slice_mm: float, side: int, margin_mm: float) -> NDArray[np.float32]:
    """How much of each pixel of a slice the beads fill, ``margin_mm`` wider than they are."""
    filled = np.zeros((side, side), np.float32)
    for bead in jet.beads:
        radius_mm = bead.radius_mm + margin_mm
        # a slice shows what lies within half its thickness
        deep_mm = max(radius_mm, 0.51 * slice_mm)
        dz_mm = (z_mm - bead.centre[2]) * min(1.0, radius_mm / deep_mm)
        if abs(z_mm - bead.centre[2]) > deep_mm:
            continue
        x, y, reach = bead.centre[0] / jet.pixel_mm, bead.centre[1] / jet.pixel_mm, int(radius_mm / jet.pixel_mm) + 3
        top, left = max(int(y) - reach, 0), max(int(x) - reach, 0)
        part = filled[top : int(y) + reach, left : int(x) + reach]
        if not part.size:
            continue
        rows, columns = (np.arange(count) + start + 0.5 for count, start in zip(part.shape, (top, left), strict=True))
        distance = np.sqrt((rows[:, None] - y) ** 2 + (columns[None] - x) ** 2 + (dz_mm / jet.pixel_mm) ** 2)
        np.maximum(part, np.clip(0.5 - distance + radius_mm / jet.pixel_mm, 0.0, 1.0), out=part)
    return filled


def _site(patch: NDArray[np.uint8], truth: PhantomTruth, organ: int | None) -> str:
    torn = [name for name in _ORGANS if getattr(truth, name).aast > 0]
    if organ is None:
        most = BLOOD_GROUPS[int(np.argmax(patch[list(BLOOD_GROUPS)]))]
        site = _SITES.get(most) or (torn[0] if torn else "mesentery")
    else:
        site = _ORGANS[organ]
    if site == "kidneys":
        return "left_kidney" if truth.left_kidney.aast >= truth.right_kidney.aast else "right_kidney"
    return site


def _with_jet(
    truth: PhantomTruth, shown: list[int], site: str, place: NDArray[np.int64], volume_ml: float, hu: float
) -> PhantomTruth:
    jet = ExtravasationTruth(
        site=site, centre_zyx=(int(place[0]), 0, 0), volume_ml=round(volume_ml, 2), mean_hu=round(hu, 1)
    )
    marked = tuple(
        one.model_copy(update={"extravasation": True}) if one.slice_index in set(shown) else one for one in truth.slices
    )
    return truth.model_copy(update={"extravasation": True, "extravasation_sites": (jet,), "slices": marked})


def write_twin(path: Path, out: Path, eyes: Eyes) -> bool:
    """The twin of the phantom in ``path``; False where it has none. Deterministic by the phantom's seed."""
    truth = PhantomTruth.model_validate_json((path / TRUTH_FILE).read_bytes())
    if not can_have_twin(truth):
        return False
    draw = np.random.default_rng([int(path.name), 17])
    twin = twin_of(np.load(path / "rgb.npy"), np.load(path / "patches.npy"), truth, draw)
    if twin is None:
        return False
    unfinished = out / f".{path.name}" / path.name
    shutil.rmtree(unfinished.parent, ignore_errors=True)
    unfinished.mkdir(parents=True)
    np.save(unfinished / "rgb.npy", twin[0])
    (unfinished / TRUTH_FILE).write_text(twin[1].model_dump_json() + "\n", encoding="utf-8")
    write_features(unfinished, eyes)
    (unfinished / "rgb.npy").unlink()
    unfinished.rename(out / path.name)
    unfinished.parent.rmdir()
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, default=BUILD / "phantom_set")
    parser.add_argument("--out", type=Path, default=BUILD / "phantom_twins")
    parser.add_argument("--triage", type=Path, default=PACKAGED_CHECKPOINTS / "triage", help="which selects slices")
    parser.add_argument("--tower", type=Path, default=BUILD / "runs" / "tower" / "tower.safetensors")
    parser.add_argument("--share", type=float, default=0.5, help="of the phantoms that can have one")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), help="which, of how many")
    arguments = parser.parse_args()
    silence_libraries()
    torch.set_num_threads(1)
    eyes, made = Eyes(arguments.triage, arguments.tower), 0
    part, parts = arguments.part
    for path in sorted(arguments.set.glob(f"[0-9]*/{TRUTH_FILE}")):
        seed = int(path.parent.name)
        chosen = np.random.default_rng([seed, 16]).random() < arguments.share and seed % parts == part
        if chosen and not (arguments.out / path.parent.name).exists():
            made += write_twin(path.parent, arguments.out, eyes)
            print(f"{path.parent.name}: {made} twins", flush=True)


if __name__ == "__main__":
    main()
