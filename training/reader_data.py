"""What the reader learns from: the tower's view of the phantoms, and token sequences as the engine writes them."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoProcessor

from reader_eyes import THRESHOLD, evenly
from reader_text import Example
from reader_truth import form_values, free_texts
from trauma_api.engines.base import Turn
from trauma_api.phantom.truth import TRUTH_FILE, PhantomTruth
from trauma_api.services.slice_selection import select_slices
from triage_data import FINDINGS, finding_truth
from write_untrained_checkpoints import READER_SLICES

FREE_TEXT_WEIGHT = 0.1
VALUE_WEIGHTS = {
    **{(organ, "low_grade"): 2.0 for organ in ("liver", "spleen", "kidneys")},
    **{(organ, "high_grade"): 1.25 for organ in ("liver", "spleen", "kidneys")},
    ("bowel_and_mesentery", "present"): 2.0,
    ("active_extravasation", "present"): 1.5,
}
"""Of the loss of a value: rare ones would hardly ever be the most probable. RSNA 2023 weighs in the same direction."""
_SUSPICION_NOISE, _BLEEDING_NOISE, _LONGEST_SHIFT = 0.08, 0.5, 1
_FEATURE_NOISE = 0.15
Piece = tuple[list[int], float]
"""Tokens, and the weight of their loss; 0 for what is read."""


class View(NamedTuple):
    """A phantom as the tower sees it."""

    features: NDArray[np.float16]
    suspicion: NDArray[np.float32]
    bleeding: NDArray[np.float32]
    at_mm: NDArray[np.float64]
    even: list[int]
    """Rows of evenly spaced slices."""
    served: list[int]
    """Rows of the slices that the service selects."""
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
    suspicion, bleeding, served = (np.load(folder / f"{name}.npy") for name in ("suspicion", "bleeding", "served"))
    even = np.flatnonzero(np.isin(seen, evenly(truth.slice_count))).tolist()
    at_mm = seen * truth.spacing_zyx_mm[0]
    return View(features, suspicion, bleeding, at_mm, even, served.tolist(), findings, truth)


class Views:
    """The phantoms of folders that the tower has seen."""

    def __init__(self, *roots: Path | None) -> None:
        self._roots = [root for root in roots if root is not None]
        self._known: set[Path] = set()
        self.views: list[View] = []

    def refresh(self) -> int:
        """Open those that are new, and return how many there are."""
        for stamp in sorted(one for root in self._roots for one in root.glob("[0-9]*/features.sha256")):
            if stamp.parent not in self._known:
                self._known.add(stamp.parent)
                self.views.append(open_view(stamp.parent))
        return len(self.views)


def chosen_as_served(view: View) -> Chosen:
    """The slices that the service selects."""
    return _taken(view, view.served)


def chosen_varied(random: Random, view: View) -> Chosen:
    """The same, varied: noise on the suspicion, a shift of each slice, or at times evenly spaced ones."""
    last = len(view.suspicion) - 1
    kind = random.random()
    draw = np.random.default_rng(random.randrange(1 << 30))
    if kind < 0.1:
        rows = view.even
    else:
        suspicion, bleeding = view.suspicion, view.bleeding
        if kind < 0.5:
            suspicion = np.clip(suspicion + draw.normal(0.0, _SUSPICION_NOISE, len(suspicion)), 0.0, 1.0)
            bleeding = (bleeding + draw.normal(0.0, _BLEEDING_NOISE, len(bleeding))).astype(np.float32)
        rows = _selected(view, suspicion.astype(np.float32), bleeding)
        if kind > 0.7:
            shifted = (row + random.randint(-_LONGEST_SHIFT, _LONGEST_SHIFT) for row in rows)
            rows = sorted({min(max(row, 0), last) for row in shifted})
    chosen = _taken(view, rows)
    noise = draw.normal(0.0, _FEATURE_NOISE, chosen.features.shape).astype(np.float32)
    return chosen._replace(features=chosen.features + noise)


def _selected(view: View, suspicion: NDArray[np.float32], bleeding: NDArray[np.floating]) -> list[int]:
    return select_slices(suspicion, THRESHOLD, READER_SLICES, bleeding=bleeding, positions_mm=view.at_mm)


def _taken(view: View, rows: Sequence[int]) -> Chosen:
    return Chosen(np.asarray(view.features[list(rows)], np.float32), view.findings[list(rows)].astype(np.float32))


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
