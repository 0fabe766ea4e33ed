"""What the reader learns from: the tower's view of the phantoms' slices, and token sequences as the engine writes them.

Beside each phantom's slices stand, once `write_features` has run,

    features.npy     float16 (looks, seen, 64, width): the tower's patches, averaged 2 x 2 as the projector does it
    suspicion.npy    float32 (looks, seen): the triage model's, by which the service selects slices
    bleeding.npy     float32 (looks, seen): its logit of active bleeding, by which it does so as well
    seen.npy         int64 (seen,): which slices those are

The first look is at the slices as they are, each further one at the study turned, sized and shifted a little.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AutoProcessor, SiglipModel

from reader_text import Example
from reader_truth import form_values, free_texts
from trauma_api.engines.base import Turn
from trauma_api.engines.checkpoints import open_checkpoint
from trauma_api.engines.device import choose_vision_dtype
from trauma_api.engines.siglip import suspicion_from_logits
from trauma_api.phantom.truth import TRUTH_FILE, PhantomTruth
from trauma_api.services.slice_selection import select_slices
from trauma_api.services.triage import with_neighbours
from trauma_api.settings import TRIAGE_STATEMENTS, Settings
from triage_data import FINDINGS, finding_truth
from triage_run import compare, embed_statements, statement_tokens
from write_untrained_checkpoints import READER_SLICES

FREE_TEXT_WEIGHT = 0.1
VALUE_WEIGHTS = {
    **{(organ, "low_grade"): 2.0 for organ in ("liver", "spleen", "kidneys")},
    **{(organ, "high_grade"): 1.25 for organ in ("liver", "spleen", "kidneys")},
    ("bowel_and_mesentery", "present"): 2.0,
    ("active_extravasation", "present"): 1.5,
}
"""Of the loss of a value: rare ones would hardly ever be the most probable. RSNA 2023 weighs in the same direction."""
SEEN_AT_ONCE = 16
_THRESHOLD: float = Settings.model_fields["triage_threshold"].default
_SUSPICION_NOISE, _BLEEDING_NOISE, _LONGEST_SHIFT = 0.08, 0.5, 2
_BLEEDING = list(TRIAGE_STATEMENTS).index("active_hemorrhage")
_FEATURE_NOISE = 0.15
_TURN_DEGREES, _SIZE, _SHIFT, _CONTRAST, _BRIGHTNESS = 7.0, 0.08, 0.05, 0.1, 8.0
Piece = tuple[list[int], float]
"""Tokens, and the weight of their loss; 0 for what is read."""


@torch.inference_mode()
def write_features(folders: Sequence[Path], triage: Path, most_slices: int, looks: int = 1) -> None:
    """See the phantoms with the tower of a triage checkpoint; of long ones every second, third ... slice only.

    Each is looked at so many times. What other weights have seen is seen again.
    """
    found = open_checkpoint(str(triage), "triage")
    model: Any = SiglipModel.from_pretrained(triage, dtype=torch.float32).eval()
    statements = embed_statements(model, statement_tokens(triage, model))
    # as the engine does it
    model.vision_model.to(choose_vision_dtype(torch.device("cpu")))
    calibration = found.metadata.calibration
    if calibration is None:
        raise ValueError(f"{triage} states no calibration")
    for folder in folders:
        stamp = folder / "features.sha256"
        if stamp.is_file() and stamp.read_text() == found.sha256:
            continue
        rgb = np.load(folder / "rgb.npy", mmap_mode="r")
        seen = np.arange(0, len(rgb), max(1, math.ceil(len(rgb) / most_slices)))
        draw = np.random.default_rng([int(folder.name), 5])
        pixels = torch.from_numpy(rgb[seen]).permute(0, 3, 1, 2).float()
        views = [pixels, *(looked_at_anew(pixels, draw) for _ in range(looks - 1))]
        features, logits = zip(*(_see_all(model, statements, view) for view in views), strict=True)
        stamp.unlink(missing_ok=True)
        np.save(folder / "seen.npy", seen)
        np.save(folder / "features.npy", np.stack(features))
        alone = (suspicion_from_logits(one, calibration.scale, calibration.offset) for one in logits)
        truth = PhantomTruth.model_validate_json((folder / TRUTH_FILE).read_bytes())
        at_mm = seen * truth.spacing_zyx_mm[0]
        np.save(folder / "suspicion.npy", np.stack([with_neighbours(one, at_mm) for one in alone]))
        np.save(folder / "bleeding.npy", np.stack([one[:, _BLEEDING] for one in logits]))
        stamp.write_text(found.sha256)


def looked_at_anew(pixels: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
    """Pictures of one study, (slices, 3, rows, columns) of 0 to 255, all turned, sized, shifted and lit alike."""
    angle = math.radians(draw.uniform(-_TURN_DEGREES, _TURN_DEGREES))
    size = draw.uniform(1.0 - _SIZE, 1.0 + _SIZE)
    turned = torch.tensor(
        [
            [math.cos(angle) / size, -math.sin(angle) / size, draw.uniform(-_SHIFT, _SHIFT)],
            [math.sin(angle) / size, math.cos(angle) / size, draw.uniform(-_SHIFT, _SHIFT)],
        ],
        dtype=torch.float32,
    )
    grid = functional.affine_grid(turned.expand(len(pixels), 2, 3), list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(pixels, grid, align_corners=False)
    contrast = draw.uniform(1.0 - _CONTRAST, 1.0 + _CONTRAST)
    lit = moved * contrast + draw.uniform(-_BRIGHTNESS, _BRIGHTNESS)
    return lit.clamp(0.0, 255.0)


def _see_all(
    model: Any, statements: torch.Tensor, pixels: torch.Tensor
) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    features, logits = zip(*(_see(model, statements, part) for part in torch.split(pixels, SEEN_AT_ONCE)), strict=True)
    return np.concatenate(features), np.concatenate(logits)


def _see(model: Any, statements: torch.Tensor, pixels: torch.Tensor) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    pixels = (pixels / 127.5 - 1.0).to(model.vision_model.dtype)
    output = model.vision_model(pixel_values=pixels)
    logits = compare(model, output.pooler_output.float(), statements).numpy()
    return pooled_patches(output.last_hidden_state.float()).half().numpy(), logits


def pooled_patches(states: torch.Tensor) -> torch.Tensor:
    """(slices, patches, width) to (slices, patches / 4, width), as ``Gemma3MultiModalProjector`` averages them."""
    side = math.isqrt(states.shape[1])
    grid = states.transpose(1, 2).reshape(len(states), -1, side, side)
    return functional.avg_pool2d(grid, 2).flatten(2).transpose(1, 2)


class View(NamedTuple):
    """A phantom as the tower sees it."""

    features: NDArray[np.float16]
    suspicion: NDArray[np.float32]
    bleeding: NDArray[np.float32]
    at_mm: NDArray[np.float64]
    findings: NDArray[np.bool_]
    """What each seen slice shows, (seen, findings) in the order of ``triage_data.FINDINGS``."""
    truth: PhantomTruth


class Chosen(NamedTuple):
    """The slices that are read together: features (slices, 64, width), and what each of them shows."""

    features: NDArray[np.float32]
    findings: NDArray[np.float32]


def open_view(folder: Path) -> View:
    """A phantom with features."""
    truth = PhantomTruth.model_validate_json((folder / TRUTH_FILE).read_bytes())
    seen = np.load(folder / "seen.npy")
    findings = finding_truth(sorted(truth.slices, key=lambda one: one.slice_index))[seen]
    features = np.load(folder / "features.npy", mmap_mode="r")
    suspicion, bleeding = (np.load(folder / f"{name}.npy") for name in ("suspicion", "bleeding"))
    return View(features, suspicion, bleeding, seen * truth.spacing_zyx_mm[0], findings, truth)


class Views:
    """The phantoms of a folder that the tower has seen."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: set[Path] = set()
        self.views: list[View] = []

    def refresh(self) -> int:
        """Open those that are new, and return how many there are."""
        for stamp in sorted(self._root.glob("[0-9]*/features.sha256")):
            if stamp.parent not in self._known:
                self._known.add(stamp.parent)
                self.views.append(open_view(stamp.parent))
        return len(self.views)


def chosen_as_served(view: View) -> Chosen:
    """The slices that the service selects."""
    return _taken(view, 0, _selected(view, view.suspicion[0], view.bleeding[0]))


def chosen_varied(random: Random, view: View) -> Chosen:
    """The same, varied: another look, noise on the suspicion, a shift of each slice, or at times evenly spaced ones."""
    look = random.randrange(len(view.features))
    suspicion, last = view.suspicion[look], view.suspicion.shape[1] - 1
    kind = random.random()
    draw = np.random.default_rng(random.randrange(1 << 30))
    if kind < 0.1:
        rows = np.unique(np.linspace(0, last, READER_SLICES + 2).round().astype(int)[1:-1]).tolist()
    else:
        bleeding = view.bleeding[look]
        if kind < 0.5:
            suspicion = np.clip(suspicion + draw.normal(0.0, _SUSPICION_NOISE, len(suspicion)), 0.0, 1.0)
            bleeding = bleeding + draw.normal(0.0, _BLEEDING_NOISE, len(bleeding))
        rows = _selected(view, suspicion.astype(np.float32), bleeding)
        if kind > 0.7:
            shifted = (row + random.randint(-_LONGEST_SHIFT, _LONGEST_SHIFT) for row in rows)
            rows = sorted({min(max(row, 0), last) for row in shifted})
    chosen = _taken(view, look, rows)
    noise = draw.normal(0.0, _FEATURE_NOISE, chosen.features.shape).astype(np.float32)
    return chosen._replace(features=chosen.features + noise)


def _selected(view: View, suspicion: NDArray[np.float32], bleeding: NDArray[np.floating]) -> list[int]:
    return select_slices(suspicion, _THRESHOLD, READER_SLICES, bleeding=bleeding, positions_mm=view.at_mm)


def _taken(view: View, look: int, rows: Sequence[int]) -> Chosen:
    return Chosen(np.asarray(view.features[look, list(rows)], np.float32), view.findings[list(rows)].astype(np.float32))


def no_view(random: Random, width: int) -> Chosen:
    """Pictures that show nothing, for texts that do not depend on them."""
    draw = np.random.default_rng(random.randrange(1 << 30))
    count = random.randint(1, READER_SLICES)
    return Chosen(draw.normal(size=(count, 64, width)).astype(np.float32), np.zeros((count, 0), np.float32))


class Writer:
    """Turns examples into tokens as the engine does."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is a reader's checkpoint."""
        self.processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self.tokenizer: Any = self.processor.tokenizer
        self.image_token: int = self.tokenizer.convert_tokens_to_ids(self.tokenizer.image_token)
        self.end_of_image: int = self.tokenizer.convert_tokens_to_ids(self.tokenizer.eoi_token)
        self.end_of_turn: int = self.tokenizer.convert_tokens_to_ids("<end_of_turn>")
        images = self.tokenizer.image_token * self.processor.image_seq_length
        self._picture = f"\n\n{self.tokenizer.boi_token}{images}{self.tokenizer.eoi_token}\n\n"
        self._opening = self.encode("<start_of_turn>model\n")

    @lru_cache(maxsize=4096)  # noqa: B019  # one writer lives as long as the run
    def _encoded(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, nothing added."""
        return list(self._encoded(text))

    def prompt(self, turns: tuple[Turn, ...]) -> list[int]:
        """Tokens up to where the model begins to write, as the processor makes them."""
        messages = [{"role": turn.role, "content": [_content(part) for part in turn.parts]} for turn in turns]
        text = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return self.encode(text.replace(self.tokenizer.boi_token, self._picture))

    def said(self, example: Example) -> list[Piece]:
        """A conversation or a section: the answers count, and the end of each."""
        tokens, opening = self.prompt(example.turns), self._opening
        pieces: list[Piece] = []
        at = 0
        for answer in example.answers:
            begin = next(i for i in range(at, len(tokens)) if tokens[i : i + len(opening)] == opening) + len(opening)
            written = [*self.encode(answer), self.end_of_turn]
            if begin < len(tokens) and tokens[begin : begin + len(written)] != written:
                raise ValueError("an answer has other tokens within the conversation")
            pieces += [(tokens[at:begin], 0.0), (written, 1.0)]
            at = begin + len(written)
        return pieces

    def form(self, example: Example, truth: PhantomTruth) -> list[Piece]:
        """A reading, in the pieces that `trauma_api.engines.constrained.fill_form` writes."""
        pieces: list[Piece] = [(self.prompt(example.turns), 0.0)]
        lead = "{"
        for name, value in form_values(truth).items():
            # all but the first token follow from it
            first, *rest = self.encode(value)
            weight = VALUE_WEIGHTS.get((name, value), 1.0)
            pieces += [(self.encode(f'{lead}"{name}":"'), 0.0), ([first], weight), (rest, FREE_TEXT_WEIGHT)]
            lead = '",'
        described, differentials = free_texts(truth)
        pieces.append((self.encode('","bleeding_description":"'), 0.0))
        pieces.append(([*self.encode(described), *self.encode('"')], FREE_TEXT_WEIGHT))
        pieces.append((self.encode(',"differentials":['), 0.0))
        for number, words in enumerate(differentials):
            if number:
                pieces += [(self.encode(","), FREE_TEXT_WEIGHT), (self.encode('"'), 0.0)]
            else:
                pieces.append((self.encode('"'), FREE_TEXT_WEIGHT))
            pieces.append(([*self.encode(words), *self.encode('"')], FREE_TEXT_WEIGHT))
        return [*pieces, (self.encode("]"), FREE_TEXT_WEIGHT), (self.encode("}"), 0.0)]


def _content(part: Any) -> dict[str, Any]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}


class Batch(NamedTuple):
    """Sequences of one length, padded at the end."""

    ids: torch.Tensor
    weights: torch.Tensor
    """Of each token's loss."""
    mask: torch.Tensor
    features: torch.Tensor | None
    """Of all pictures, (pictures, 64, width), in the order in which they stand in the sequences."""
    findings: torch.Tensor | None
    """What each picture shows, (pictures, findings); none where a picture is of nothing."""

    @property
    def tokens(self) -> int:
        """Positions, padding included."""
        return int(self.ids.numel())


class Written(NamedTuple):
    """Pieces, and the pictures that stand in them."""

    pieces: list[Piece]
    chosen: Chosen | None

    @property
    def length(self) -> int:
        return sum(len(tokens) for tokens, _ in self.pieces)


def batches_of(sequences: Sequence[Written], most_tokens: int) -> list[Batch]:
    """Batches of at most so many tokens, each of sequences that are about as long."""
    ordered = sorted(sequences, key=lambda one: one.length)
    groups: list[list[Written]] = [[]]
    for sequence in ordered:
        if groups[-1] and sequence.length * (len(groups[-1]) + 1) > most_tokens:
            groups.append([])
        groups[-1].append(sequence)
    return [_padded(group) for group in groups]


def _padded(group: Sequence[Written]) -> Batch:
    longest = max(one.length for one in group)
    ids, weights = torch.zeros(len(group), longest, dtype=torch.long), torch.zeros(len(group), longest)
    mask = torch.zeros(len(group), longest, dtype=torch.long)
    for row, one in enumerate(group):
        flat = [token for tokens, _ in one.pieces for token in tokens]
        ids[row, : len(flat)] = torch.tensor(flat)
        weights[row, : len(flat)] = torch.tensor([weight for tokens, weight in one.pieces for _ in tokens])
        mask[row, : len(flat)] = 1
    pictures = [one.chosen for one in group if one.chosen is not None]
    if not pictures:
        return Batch(ids, weights, mask, None, None)
    features = torch.from_numpy(np.concatenate([one.features for one in pictures]))
    known = all(one.findings.shape[1] == len(FINDINGS) for one in pictures)
    findings = torch.from_numpy(np.concatenate([one.findings for one in pictures])) if known else None
    return Batch(ids, weights, mask, features, findings)
