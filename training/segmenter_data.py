"""Crops of the phantom training set, and of real CTs with inserted blood, as the segmenter sees them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from segmenter_appearance import marbled, recoloured, through_another_scanner
from trauma_api.engines.checkpoints import SegmenterChannel, SegmenterInput
from trauma_api.phantom.labels import BLOOD_LABELS, Label

PIXEL_MM = 1.0
NARROW, WIDE = (-20.0, 80.0), (-150.0, 250.0)
SEEN = SegmenterInput(
    channels=(
        SegmenterChannel(window_hu=NARROW, neighbours=0),
        SegmenterChannel(window_hu=WIDE, neighbours=0),
        SegmenterChannel(window_hu=NARROW, neighbours=1),
    ),
    pixel_spacing_mm=PIXEL_MM,
)
CROP = 144
BLOOD_SHARE, MISTAKEN_SHARE = 0.5, 0.25
MISTAKEN = {
    Label.ASCITES: 4.0,
    Label.BOWEL: 3.0,
    Label.MUSCLE: 2.0,
    Label.BLADDER: 2.0,
    Label.OLD_HEMATOMA: 2.0,
    Label.CYST: 1.0,
    Label.GALLBLADDER: 1.0,
    Label.STOMACH: 2.0,
    Label.LIVER: 1.0,
    Label.SPLEEN: 1.0,
    Label.CONTUSION: 1.0,
    Label.INFARCT: 1.0,
    Label.INJURED_BOWEL: 1.0,
    Label.SOFT_TISSUE: 1.0,
    Label.PANCREAS: 1.0,
    Label.VEIN: 1.0,
}
"""How often crops lie around what is mistaken for blood."""
PLACES_KEPT = 80
MARBLED_SHARE = 0.5
"""Of the phantoms' crops, those whose muscle is streaked with fat."""
RECOLOURED_SHARE = 0.6
"""Of all crops, those whose organs have other HU."""

Places = NDArray[np.int32]
"""Slices, rows and columns of voxels, (voxels, 3)."""


@dataclass
class Study:
    """One folder of the set: images in steps of 2 HU, labels, and some places of each label that matters."""

    hu_u8: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    blood: dict[Label, Places]
    mistaken: dict[Label, Places]


def open_study(folder: Path, random: np.random.Generator) -> Study:
    """Open a folder and note where things are."""
    labels = np.load(folder / "labels.npy", mmap_mode="r")
    flat = np.asarray(labels).ravel()
    bloody = np.flatnonzero(flat >= BLOOD_LABELS[0])
    anywhere = random.integers(flat.size, size=200_000)

    def places(among: NDArray[np.int64], wanted: Iterable[Label]) -> dict[Label, Places]:
        here = flat[among]
        found = {label: random.permutation(among[here == label])[:PLACES_KEPT] for label in wanted}
        return {
            label: np.stack(np.unravel_index(at, labels.shape), axis=1).astype(np.int32)
            for label, at in found.items()
            if len(at)
        }

    blood, mistaken = places(bloody, BLOOD_LABELS), places(anywhere, MISTAKEN)
    return Study(np.load(folder / "hu_u8.npy", mmap_mode="r"), labels, blood, mistaken)


class Pool:
    """Studies of one kind, and which of them have what."""

    def __init__(self, studies: list[Study]) -> None:
        self.studies = studies
        self.bleeding = [study for study in studies if study.blood]
        holders = {label: [study for study in studies if label in study.mistaken] for label in MISTAKEN}
        self.mistaken = [(label, having) for label, having in holders.items() if having]
        weights = np.array([MISTAKEN[label] for label, _ in self.mistaken])
        self.chances = weights / weights.sum()

    def place(self, random: np.random.Generator) -> tuple[Study, Places | None]:
        """A study and one of its voxels to look at, (3,); None for anywhere."""
        kind = random.random()
        if kind < BLOOD_SHARE and self.bleeding:
            study = self.bleeding[int(random.integers(len(self.bleeding)))]
            label = list(study.blood)[int(random.integers(len(study.blood)))]
            return study, random.choice(study.blood[label])
        if kind < BLOOD_SHARE + MISTAKEN_SHARE and self.mistaken:
            label, having = self.mistaken[int(random.choice(len(self.mistaken), p=self.chances))]
            study = having[int(random.integers(len(having)))]
            return study, random.choice(study.mistaken[label])
        return self.studies[int(random.integers(len(self.studies)))], None


@dataclass
class Studies:
    """The growing set, phantoms and real CTs apart."""

    roots: tuple[Path, ...]
    real_share: float
    random: np.random.Generator
    known: dict[Path, Study] = field(default_factory=dict)
    pools: list[Pool] = field(default_factory=list)

    def refresh(self, most: int) -> None:
        """Open up to ``most`` folders that are new, of each kind as many."""
        for root in self.roots:
            found = [folder for folder in sorted(root.glob("[!.]*")) if folder not in self.known]
            for folder in found[: most // len(self.roots)]:
                self.known[folder] = open_study(folder, self.random)
        self.pools = [Pool([s for f, s in self.known.items() if f.parent == root]) for root in self.roots]

    def crop(self, size: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Three neighbouring slices (3, size, size) and the middle one's blood."""
        phantoms, real = self.pools
        use_real = bool(real.studies) and self.random.random() < self.real_share
        study, place = (real if use_real else phantoms).place(self.random)
        if place is None:
            z, y, x = (int(value) for value in self.random.integers(study.labels.shape))
        else:
            z = int(place[0])
            y, x = (int(value) for value in place[1:] + self.random.integers(-size // 3, size // 3, 2))
        top, left = y - size // 2, x - size // 2
        three = np.stack([_cut(plane, top, left, size) for plane in three_slices(study.hu_u8, z)])
        labels = _cut(study.labels[z], top, left, size)
        if not use_real and self.random.random() < MARBLED_SHARE:
            three = marbled(three, labels == Label.MUSCLE, self.random)
        if self.random.random() < RECOLOURED_SHARE:
            three = recoloured(three, labels, self.random)
        return three, labels >= BLOOD_LABELS[0]


def three_slices(hu_u8: NDArray[np.uint8], z: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Slice z between its neighbours. At an end the missing one is such that the mean is that of the two there are."""
    if 0 < z < len(hu_u8) - 1:
        return hu_u8[z - 1], hu_u8[z], hu_u8[z + 1]
    other = hu_u8[min(max(1 if z == 0 else z - 1, 0), len(hu_u8) - 1)]
    between = ((hu_u8[z].astype(np.uint16) + other) // 2).astype(np.uint8)
    return (between, hu_u8[z], other) if z == 0 else (other, hu_u8[z], between)


def _cut(plane: NDArray[np.uint8], top: int, left: int, size: int) -> NDArray[np.uint8]:
    """A square of a plane; beyond its edge is air, 0."""
    result = np.zeros((size, size), np.uint8)
    rows, columns = plane.shape
    a, b, c, d = max(top, 0), min(top + size, rows), max(left, 0), min(left + size, columns)
    if a < b and c < d:
        result[a - top : b - top, c - left : d - left] = plane[a:b, c:d]
    return result


def channels(three_hu: torch.Tensor) -> torch.Tensor:
    """(n, 3 slices, y, x) HU to the network's input, as `trauma_api.engines.unet.segmenter_input` builds it."""
    middle, mean = three_hu[:, 1], three_hu.mean(dim=1)
    parts = []
    for channel in SEEN.channels:
        low, high = channel.window_hu
        parts.append((((mean if channel.neighbours else middle) - low) / (high - low)).clamp(0, 1))
    return torch.stack(parts, dim=1)


def batch_of(studies: Studies, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Augmented crops as input, and blood as 0 or 1, (n, 1, y, x)."""
    random = studies.random
    size = int(CROP * random.choice([1.0, random.uniform(0.82, 1.2)]))
    crops = [studies.crop(size) for _ in range(count)]
    hu = torch.from_numpy(np.stack([three for three, _ in crops])).float() * 2 - 200
    blood = torch.from_numpy(np.stack([mask for _, mask in crops])).float()[:, None]
    if size != CROP:
        hu = functional.interpolate(hu, (CROP, CROP), mode="bilinear", align_corners=False)
        blood = functional.interpolate(blood, (CROP, CROP), mode="bilinear", align_corners=False).round()
    hu = through_another_scanner(hu)
    flip = torch.rand(count) < 0.3
    hu[flip], blood[flip] = hu[flip].flip(-1), blood[flip].flip(-1)
    return channels(hu), blood
