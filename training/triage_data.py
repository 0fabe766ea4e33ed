"""Slices of the phantom training set as triage sees them: what each one shows, and balanced batches of them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from painted_jets import paint_jet, paint_tear
from trauma_api.imaging.windowing import MODEL_WINDOWS_HU
from trauma_api.phantom.labels import PERITONEAL_LABELS, Label
from trauma_api.phantom.truth import TRUTH_FILE, PhantomTruth, SliceTruth
from trauma_api.services.triage import neighbour_mean
from trauma_api.settings import TRIAGE_STATEMENTS

TRACE_ML = 0.3
"""Less blood than this in a slice is not called free fluid."""
FINDINGS = ("liver", "spleen", "kidneys", "bowel", "extravasation", "blood")
GROUPS, INJURY_GROUPS = 13, slice(8, 13)
"""The groups of patches.npy: how many, and which are injuries or blood; those before are organs."""

_OUTSIDE_ORGANS = (*PERITONEAL_LABELS, Label.RETROPERITONEAL, Label.PERIRENAL)
_POSITIONS = 20
# shares of the injured half: one for each statement of an injury, in their order, and one for traces of blood
_INJURED_SHARES = np.array([0.28, 0.25, 0.22, 0.18, 0.07])
# of the clean half, this share comes from anywhere and not from where injuries are: a model has to see chests too
_ANYWHERE_SHARE = 0.2
_JET = FINDINGS.index("extravasation")
_ORGAN = list(TRIAGE_STATEMENTS).index("solid_organ_laceration")
_PAINTED_SHARE, _TORN_SHARE, _TORN_BLEEDS_SHARE = 0.7, 0.4, 0.6
"""Of the slices with blood and without a jet, how many get one if there is room; of those with an injured organ, how
many get a tear in its sound tissue instead, and how many of these tears bleed."""
_SHIFT_HU, _NOISE_HU = 3.0, 4.0
_ROTATION_RAD, _ZOOM, _SHIFT = 0.12, 0.08, 0.06


def statement_truth(
    slices: Sequence[SliceTruth], labels_zyx: NDArray[np.uint8], spacing_zyx_mm: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Which of the five triage statements is true of each slice: bool (slices, statements).

    The order is that of ``settings.TRIAGE_STATEMENTS``: extravasation; liver, spleen or kidney; blood outside the
    organs; bowel, or blood in the mesentery; none of these. Ascites and other distractors count as none. The fourth and
    third need `TRACE_ML` of blood, counted in the label volume (``slices`` state only the sum over all blood).
    """
    outside_ml = blood_ml(labels_zyx, _OUTSIDE_ORGANS, spacing_zyx_mm)
    mesenteric_ml = blood_ml(labels_zyx, (Label.MESENTERIC,), spacing_zyx_mm)
    injuries = np.stack(
        [
            np.array([one.extravasation for one in slices], bool),
            np.array([one.liver or one.spleen or one.kidneys for one in slices], bool),
            outside_ml >= TRACE_ML,
            np.array([one.bowel for one in slices], bool) | (mesenteric_ml >= TRACE_ML),
        ],
        axis=1,
    )
    return np.concatenate([injuries, ~injuries.any(axis=1, keepdims=True)], axis=1)


def blood_ml(
    labels_zyx: NDArray[np.uint8], labels: Sequence[Label], spacing_zyx_mm: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Millilitres of the ``labels`` in each slice."""
    wanted = np.zeros(256, bool)
    wanted[list(labels)] = True
    counts = wanted[labels_zyx].sum(axis=(1, 2))
    return np.asarray(counts * (np.prod(spacing_zyx_mm) / 1000.0), np.float64)


def finding_truth(slices: Sequence[SliceTruth]) -> NDArray[np.bool_]:
    """What the auxiliary slice head learns, in the order of `FINDINGS`: bool (slices, findings)."""
    return np.array(
        [(s.liver, s.spleen, s.kidneys, s.bowel, s.extravasation, s.blood_ml >= TRACE_ML) for s in slices], bool
    ).reshape(-1, len(FINDINGS))


class Batch(NamedTuple):
    """Slices and their truth."""

    pixels: torch.Tensor
    """float32 (slices, 3, rows, columns), 0..255."""
    patches: torch.Tensor
    """float32 (slices, groups, rows, columns), the share of each patch that is of a group."""
    statements: torch.Tensor
    statement_weights: torch.Tensor
    findings: torch.Tensor
    injured: torch.Tensor


class SliceSet:
    """All slices of a folder of phantoms. Pictures stay on disk; what they show is in memory, one row a slice."""

    def __init__(self, folder: Path, side_pixels: int, stride: int = 1) -> None:
        """Takes every ``stride``-th slice, in pictures of ``side_pixels``. `refresh` reads the folder."""
        self._folder, self._side_pixels, self._stride = folder, side_pixels, stride
        self._known: set[Path] = set()
        self._rgb: list[NDArray[np.uint8]] = []
        self._patches: list[NDArray[np.uint8]] = []
        self._parts: list[tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]] = []
        self._spacing_mm: list[float] = []
        self.aorta_hu: list[float | None] = []
        self.seeds: list[int] = []

    def refresh(self) -> int:
        """Add phantoms that were written since, and return how many there are now."""
        found = [path.parent for path in sorted(self._folder.glob(f"[0-9]*/{TRUTH_FILE}"))]
        new = [folder for folder in found if folder not in self._known]
        for folder in new:
            self._add(folder)
        if new:
            self._join()
        return len(self._known)

    def _add(self, folder: Path) -> None:
        truth = PhantomTruth.model_validate_json((folder / TRUTH_FILE).read_bytes())
        slices = sorted(truth.slices, key=lambda one: one.slice_index)
        known = folder / "statements.npy"
        if not known.is_file():
            unfinished = folder / f".statements.{os.getpid()}.npy"
            np.save(unfinished, statement_truth(slices, np.load(folder / "labels.npy"), truth.spacing_zyx_mm))
            unfinished.rename(known)  # whole or not at all, as several trainings may read a set
        statements = np.load(known)
        taken = np.arange(len(slices))[:: self._stride]
        injured = np.array([one.injury_or_blood for one in slices], bool)
        self._parts.append((statements[taken], finding_truth(slices)[taken], injured[taken], taken))
        self._rgb.append(np.load(folder / "rgb.npy", mmap_mode="r"))
        self._patches.append(np.load(folder / "patches.npy", mmap_mode="r"))
        self._spacing_mm.append(truth.spacing_zyx_mm[0])
        self.aorta_hu.append(None if truth.phase == "none" else truth.aorta_hu)
        self.seeds.append(truth.seed)
        self._known.add(folder)

    def _join(self) -> None:
        self.statements, self.findings, self.injured, self.slice_index = (
            np.concatenate([part[column] for part in self._parts]) for column in range(4)
        )
        self.study = np.repeat(np.arange(len(self._parts)), [len(part[3]) for part in self._parts])
        lengths = np.array([len(rgb) for rgb in self._rgb])
        position = (self.slice_index / lengths[self.study] * _POSITIONS).astype(int)
        clean_study = ~np.array([part[2].any() for part in self._parts])[self.study]
        clean = ~self.injured & self.statements[:, -1]
        self._position = position
        self._pools = [np.flatnonzero(self.statements[:, index]) for index in range(self.statements.shape[1] - 1)]
        self._pools.append(np.flatnonzero(self.injured & self.statements[:, -1]))
        self._clean = np.flatnonzero(clean)
        self._clean_at = [
            [np.flatnonzero(clean & (position == at) & (clean_study == of)) for at in range(_POSITIONS)]
            for of in (False, True)
        ]

    def picture(self, study: int, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A slice as it is stored, (rows, columns, 3), and what its patches hold, (rows, columns, groups)."""
        return self._rgb[study][index], self._patches[study][index]

    def __len__(self) -> int:
        return len(self.statements)

    def with_neighbours(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """A value of each row as the service forms it from the slice and its neighbours."""
        result = np.empty(len(values), np.float64)
        for study, spacing_mm in enumerate(self._spacing_mm):
            rows = self.study == study
            result[rows] = neighbour_mean(values[rows], self.slice_index[rows] * spacing_mm)
        return result

    def balanced(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """``count`` rows, half injured, each with a clean partner from the same part of the body.

        Partners come from clean studies and from injured ones in turn, so that neither the position nor the study
        gives the injury away.
        """
        shares = _INJURED_SHARES * np.array([len(pool) > 0 for pool in self._pools])
        if not shares.any() or not len(self._clean):
            return np.asarray(rng.integers(len(self), size=count), np.int64)
        rows: list[int] = []
        for pair in range(count // 2):
            injured = int(rng.choice(self._pools[rng.choice(len(shares), p=shares / shares.sum())]))
            near = self._clean_at[pair % 2][self._position[injured]]
            anywhere = rng.random() < _ANYWHERE_SHARE or not len(near)
            rows += [injured, int(rng.choice(self._clean if anywhere else near))]
        return np.array(rows, np.int64)

    def batch(self, rows: NDArray[np.int64], paint: np.random.Generator | None = None) -> Batch:
        """The pictures and truth of ``rows``; with ``paint`` some that bleed show active extravasation as well."""
        places = [(int(self.study[row]), int(self.slice_index[row])) for row in rows]
        pictures = [self._rgb[study][index] for study, index in places]
        shares = [self._patches[study][index] for study, index in places]
        statements, findings, injured = self.statements[rows], self.findings[rows], self.injured[rows]
        # the injured half, of which each has a partner after it
        for at in range(0, len(places), 2):
            aorta_hu = self.aorta_hu[places[at][0]]
            if paint is None or aorta_hu is None or statements[at, -1] or findings[at, _JET]:
                continue
            painted, bleeds = _painted(pictures[at], shares[at], aorta_hu, paint, organ=bool(statements[at, _ORGAN]))
            if painted is not None:
                pictures[at], shares[at] = painted
                statements[at, 0] |= bleeds
                findings[at, _JET] |= bleeds
        weights = np.ones(statements.shape, np.float32)
        # a trace of blood is neither free fluid nor a normal slice
        weights[np.ix_(injured & statements[:, -1], [2, 4])] = 0.0
        return Batch(
            pixels=resized(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float(), self._side_pixels),
            patches=torch.from_numpy(np.stack(shares)).permute(0, 3, 1, 2).float() / 255.0,
            statements=torch.from_numpy(statements).float(),
            statement_weights=torch.from_numpy(weights),
            findings=torch.from_numpy(findings).float(),
            injured=torch.from_numpy(injured).float(),
        )


def resized(pixels: torch.Tensor, side_pixels: int) -> torch.Tensor:
    """Pictures (slices, 3, rows, columns) of 0..255 as a processor makes them smaller."""
    if pixels.shape[-1] == side_pixels:
        return pixels
    size = (side_pixels, side_pixels)
    return functional.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)


def _painted(
    picture: NDArray[np.uint8], share: NDArray[np.uint8], aorta_hu: float, paint: np.random.Generator, *, organ: bool
) -> tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]] | None, bool]:
    """The picture with something painted into it, if anything is, and whether that is a jet."""
    if paint.random() > _PAINTED_SHARE:
        return None, False
    if organ and paint.random() < _TORN_SHARE:
        bleeds = paint.random() < _TORN_BLEEDS_SHARE
        return paint_tear(picture, share, aorta_hu, paint, bleeds=bleeds), bleeds
    return paint_jet(picture, share, aorta_hu, paint), True


def augmented(batch: Batch, rng: np.random.Generator) -> Batch:
    """Turned, zoomed and moved a little together with its patches, with a shift of HU and noise. Never mirrored."""
    count = len(batch.pixels)
    pixels, patches = batch.pixels, batch.patches
    # resampling blurs, so half of the batches stay as the processor will deliver them
    if rng.random() < 0.5:
        affine = _affine(rng, count)
        pixels, patches = _resampled(pixels, affine), _resampled(patches, affine)
    shift_hu = torch.from_numpy(rng.normal(0.0, _SHIFT_HU, (count, 1, 1, 1)).astype(np.float32))
    noise_hu = torch.from_numpy(rng.uniform(0.0, _NOISE_HU, (count, 1, 1, 1)).astype(np.float32))
    change_hu = shift_hu + noise_hu * torch.randn(count, 1, *pixels.shape[2:])
    levels_per_hu = torch.tensor([255.0 / (high - low) for low, high in MODEL_WINDOWS_HU]).view(1, 3, 1, 1)
    # what a window has clipped lies an unknown way outside it
    inside = (pixels > 0.0) & (pixels < 255.0)
    pixels = (pixels + inside * change_hu * levels_per_hu).clamp_(0.0, 255.0)
    return batch._replace(pixels=pixels, patches=patches)


def _affine(rng: np.random.Generator, count: int) -> torch.Tensor:
    """(count, 2, 3), in the coordinates of ``affine_grid``, where the picture reaches from -1 to 1."""
    angle = rng.uniform(-_ROTATION_RAD, _ROTATION_RAD, count)
    zoom = rng.uniform(1.0 - _ZOOM, 1.0 + _ZOOM, (2, count))
    shift = rng.uniform(-_SHIFT, _SHIFT, (2, count))
    rows = [
        [np.cos(angle) * zoom[0], -np.sin(angle) * zoom[1], shift[0]],
        [np.sin(angle) * zoom[0], np.cos(angle) * zoom[1], shift[1]],
    ]
    return torch.from_numpy(np.array(rows, np.float32).transpose(2, 0, 1).copy())


def _resampled(planes: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    grid = functional.affine_grid(affine, list(planes.shape), align_corners=False)
    return functional.grid_sample(planes, grid, align_corners=False)
