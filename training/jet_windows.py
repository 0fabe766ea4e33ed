"""Windows of a few patches around blood, half of them with a painted jet, from the pictures of `triage_data.SliceSet`.

A whole picture has one jet among a hundred patches of everything else. A window costs a quarter of it, and every window
is about blood with a jet or without.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from painted_jets import BLOOD_GROUPS, JET_GROUP, ORGAN_GROUPS, paint_jet, paint_tear
from triage_data import FINDINGS, Batch, SliceSet, augmented

SIDE = 4
"""Patches along each edge."""
_DRAWN_SHARE, _TORN_SHARE, _PAINTED_SHARE = 0.25, 0.25, 0.5
_LEAST_DRAWN, _LEAST_BLOOD, _LEAST_ORGAN = 5, 128, 240
"""Of 255, for a patch that a window lies around."""


class WindowBatch(NamedTuple):
    """``pixels`` (windows, 3, rows, columns) of 0 to 255, ``patches`` (windows, groups, 4, 4), and where each lies."""

    pixels: torch.Tensor
    patches: torch.Tensor
    corners: torch.Tensor
    """(windows, 2): row and column of the first patch, both even."""


class Windows:
    """Windows of those slices that bleed in a phantom with contrast."""

    def __init__(self, slices: SliceSet) -> None:
        self._slices = slices
        contrast = np.array([hu is not None for hu in slices.aorta_hu])
        bloody = ~slices.statements[:, -1] & contrast[slices.study]
        jets = slices.findings[:, FINDINGS.index("extravasation")]
        self._plain, self._drawn = np.flatnonzero(bloody & ~jets), np.flatnonzero(bloody & jets)

    def batch(self, rng: np.random.Generator, count: int) -> WindowBatch:
        """So many windows, turned and lit anew as `augmented` does."""
        found: list[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]] = []
        while len(found) < count:
            window = self._window(rng)
            if window is not None:
                found.append(window)
        pictures, shares, corners = zip(*found, strict=True)
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
        patches = torch.from_numpy(np.stack(shares)).permute(0, 3, 1, 2).float() / 255.0
        nothing = torch.zeros(count)
        done = augmented(Batch(pixels, patches, nothing, nothing, nothing, nothing), rng)
        return WindowBatch(done.pixels, done.patches, torch.from_numpy(np.stack(corners)))

    def _window(
        self, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]] | None:
        drawn = rng.random() < _DRAWN_SHARE
        row = int(rng.choice(self._drawn if drawn else self._plain))
        study, index = int(self._slices.study[row]), int(self._slices.slice_index[row])
        rgb, whole = self._slices.picture(study, index)
        torn = not drawn and bool(self._slices.statements[row, 1]) and rng.random() < _TORN_SHARE
        if drawn:
            found = np.argwhere(whole[..., JET_GROUP] >= _LEAST_DRAWN)
        elif torn:
            found = np.argwhere(whole[..., ORGAN_GROUPS].max(axis=-1) >= _LEAST_ORGAN)
        else:
            found = np.argwhere(whole[..., BLOOD_GROUPS].astype(np.int64).sum(axis=-1) >= _LEAST_BLOOD)
        if not len(found):
            return None
        corner = found[rng.integers(len(found))] - rng.integers(1, SIDE - 1, 2)
        corner = np.clip(corner, 0, len(whole) - SIDE) // 2 * 2
        (i, j), side = corner.tolist(), len(rgb) // len(whole)
        picture = rgb[i * side : (i + SIDE) * side, j * side : (j + SIDE) * side]
        share = whole[i : i + SIDE, j : j + SIDE]
        aorta_hu = self._slices.aorta_hu[study]
        if not drawn and aorta_hu is not None:
            picture, share = _painted(picture, share, aorta_hu, rng, torn=torn)
        return picture, share, corner


def _painted(
    picture: NDArray[np.uint8], share: NDArray[np.uint8], aorta_hu: float, rng: np.random.Generator, *, torn: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    bleeds = rng.random() < _PAINTED_SHARE
    painted = None
    if torn:
        painted = paint_tear(picture, share, aorta_hu, rng, bleeds=bleeds)
    elif bleeds:
        painted = paint_jet(picture, share, aorta_hu, rng)
    return painted or (picture, share)
