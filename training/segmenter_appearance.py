"""How the tissue in the segmenter's crops is varied, so that blood is told by where it lies and not by its HU alone.

Crops are (3 neighbouring slices, rows, columns) in steps of 2 HU from -200; labels are those of the middle slice.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from trauma_api.phantom.labels import BLOOD_LABELS, Label

SHIFTED_SHARE, FILLED_SHARE = 0.25, 0.25
"""Of the crops that show an organ, those where it is brighter or darker, and those where a hollow one is collapsed."""
SHIFTS_HU = {
    Label.MUSCLE: (-10.0, 35.0),
    Label.SOFT_TISSUE: (-15.0, 40.0),
    Label.FAT: (0.0, 35.0),
    Label.LIVER: (-25.0, 40.0),
    Label.SPLEEN: (-15.0, 50.0),
    Label.LEFT_KIDNEY: (-20.0, 60.0),
    Label.RIGHT_KIDNEY: (-20.0, 60.0),
    Label.PANCREAS: (-20.0, 35.0),
    Label.VEIN: (-20.0, 80.0),
    Label.VESSEL: (-40.0, 60.0),
    Label.GALLBLADDER: (-5.0, 15.0),
}
"""Lowest and highest change, for phases, fatty or dense organs and streaky fat, of which phantoms have too few."""
FILLED_HU = (15.0, 110.0)
_TEXTURE_HU = 14.0
_RUGAE_HU = 25.0
_EDGE_PX = 0.7
WALL_SHARE, WALL_PX = 0.3, (1.5, 8.0)
"""Of the crops that are recoloured, those whose body wall is thicker, and by how much where it is thickest."""
STREAK_HU, _STREAKS = (-35.0, 15.0), 3
_FAT_U8 = 50.0
"""-100 HU."""


def marbled(three_u8: NDArray[np.uint8], muscle: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.uint8]:
    """Muscle as many patients have it, and no phantom: darker or brighter, and streaked with fat.

    (3, rows, columns) in steps of 2 HU; ``muscle`` is that of the middle slice.
    """
    if not muscle.any():
        return three_u8
    share_of_fat = (1.5 * (_smooth(muscle.shape, random) - random.uniform(-0.2, 1.6))).clip(0.0, 1.0)
    muscle_u8 = three_u8.astype(np.float32) + random.uniform(-12.0, 6.0)
    streaked = muscle_u8 * (1.0 - share_of_fat) + _FAT_U8 * share_of_fat
    return np.asarray(np.where(muscle, streaked.clip(0.0, 255.0).round(), three_u8), np.uint8)


def recoloured(
    three_u8: NDArray[np.uint8], labels: NDArray[np.uint8], random: np.random.Generator
) -> NDArray[np.uint8]:
    """Each organ brighter or darker by itself, stomach and bowel collapsed, full of their walls; blood stays as it is.

    (3, rows, columns) in steps of 2 HU; ``labels`` are those of the middle slice.
    """
    more_u8 = np.zeros(labels.shape, np.float32)
    for label, shift_hu in SHIFTS_HU.items():
        inside = labels == label
        if random.random() < SHIFTED_SHARE and inside.any():
            texture = random.uniform(0.0, _TEXTURE_HU) * _smooth(labels.shape, random)
            more_u8[inside] = ((random.uniform(*shift_hu) + texture) / 2)[inside]
    three = three_u8 + ndimage.gaussian_filter(more_u8, _EDGE_PX)
    if random.random() < WALL_SHARE:
        three = _with_thicker_wall(three, labels, random)
    for hollow in (Label.STOMACH, Label.BOWEL):
        inside = labels == hollow
        if random.random() < FILLED_SHARE and inside.any():
            filled_hu = random.uniform(*FILLED_HU) + random.uniform(0.0, _RUGAE_HU) * _smooth(labels.shape, random)
            share = ndimage.gaussian_filter(inside.astype(np.float32), _EDGE_PX)
            three = three * (1 - share) + (filled_hu + 200) / 2 * share
    varied = np.asarray(three.clip(0.0, 255.0).round(), np.uint8)
    return np.asarray(np.where(labels >= BLOOD_LABELS[0], three_u8, varied), np.uint8)


def _with_thicker_wall(
    three: NDArray[np.float32], labels: NDArray[np.uint8], random: np.random.Generator
) -> NDArray[np.float32]:
    """Muscle between ribs and organs, as of the diaphragm and the transversus, thicker here and thinner there."""
    muscle = labels == Label.MUSCLE
    if not muscle.any():
        return three
    thickness_px = random.uniform(*WALL_PX) * (_smooth(labels.shape, random) + 0.5).clip(0.0, 1.0)
    beside = np.isin(labels, (Label.FAT, Label.LIVER, Label.SPLEEN)) & (
        ndimage.distance_transform_edt(~muscle) <= thickness_px
    )
    share = ndimage.gaussian_filter(beside.astype(np.float32), _EDGE_PX)
    levels = np.median(three[:, muscle], axis=1)[:, None, None]
    grain = three - ndimage.uniform_filter(three, (1, 5, 5))
    return np.asarray(three * (1 - share) + (levels + grain) * share, np.float32)


def through_another_scanner(hu: torch.Tensor) -> torch.Tensor:
    """(n, 3, rows, columns) HU, each crop of its own kernel, HU and noise."""
    count = len(hu)

    def each(low: float, high: float, share: float = 1.0) -> torch.Tensor:
        return torch.empty(count, 1, 1, 1).uniform_(low, high) * (torch.rand(count, 1, 1, 1) < share)

    hu = hu * (1 + each(-0.05, 0.05)) + each(-6, 6)
    soft = functional.avg_pool2d(hu, 3, stride=1, padding=1, count_include_pad=False)
    hu = hu + each(-0.8, 0.6, share=0.4) * (hu - soft)
    return hu + _streaks(count, hu.shape[-1]) + each(0, 9, share=0.4) * torch.randn_like(hu)


def _streaks(count: int, side: int) -> torch.Tensor:
    """Dark and bright bands, as arms beside the trunk leave them, in a quarter of the crops; (n, 1, side, side) HU."""

    def each(low: float, high: float) -> torch.Tensor:
        return torch.empty(count, _STREAKS, 1, 1).uniform_(low, high)

    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    angle = torch.empty(count, 1, 1, 1).uniform_(-0.6, 0.6)
    across = y * angle.cos() + x * angle.sin()
    bands = each(*STREAK_HU) * torch.exp(-(((across - each(-1, 1)) / each(0.04, 0.2)) ** 2))
    return bands.sum(dim=1, keepdim=True) * (torch.rand(count, 1, 1, 1) < 0.25)


def _smooth(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float32]:
    """A field of about standard deviation 1, coarse or fine, of that shape."""
    side = max(shape)
    coarse = torch.from_numpy(random.normal(size=(1, 1, *random.integers(4, 32, 2))).astype(np.float32))
    field = functional.interpolate(coarse, (side, side), mode="bicubic")[0, 0, : shape[0], : shape[1]]
    return np.asarray(field.numpy(), np.float32)
