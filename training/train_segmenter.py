"""Trains the hemorrhage segmenter (`smp.Unet("resnet34")`) from scratch on build/phantom_full, on one thread.

    python training/train_segmenter.py --minutes 75            (start)
    python training/train_segmenter.py --minutes 75 --resume   (go on after a stop)
    python training/train_segmenter.py --resume --minutes 0 --export src/trauma_api/checkpoints/segmenter
    python training/train_segmenter.py --start-from src/trauma_api/checkpoints/segmenter --out build/runs/next

The third one exports the averaged weights that a run, also one that goes on, has saved; the last one begins a run with
the weights of a checkpoint. Crops of 144 x 144 pixels of 1 mm: half around blood, each kind of blood in a study alike,
so that small lesions count; a quarter around what is mistaken for blood, whether many studies have it or few; the rest
anywhere. Folders of build/real_set, real CTs with inserted blood, are mixed in. The rate falls with the time that has
passed, so that a run fits its minutes.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from run_state import LOG_FILE, load_state, log_line, named, save_state, under
from segmenter_data import SEEN, Studies, batch_of, channels, three_slices
from trauma_api.engines.checkpoints import ARCHITECTURES, Metadata
from trauma_api.engines.device import cpu_prefers_bfloat16
from trauma_api.phantom.labels import BLOOD_LABELS
from trauma_api.phantom.truth import TRUTH_FILE, PhantomTruth
from write_untrained_checkpoints import write_metadata

BUILD = Path(__file__).parents[1] / "build"
REFRESH_S, SAVE_S, LOG_S = 180.0, 180.0, 60.0


def loss_of(logits: torch.Tensor, blood: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and the soft Dice of the whole batch."""
    chance = logits.sigmoid()
    overlap = 2 * (chance * blood).sum() / ((chance + blood).sum() + 1)
    return functional.binary_cross_entropy_with_logits(logits, blood) + 0.5 * (1 - overlap)


class Run:
    """Model, average and optimizer, saved together."""

    def __init__(self, rate: float, folder: Path) -> None:
        self.folder = folder
        self.model = smp.Unet("resnet34", encoder_weights=None, in_channels=len(SEEN.channels), classes=1).to(
            memory_format=torch.channels_last
        )
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=0.02, fused=True)
        self.rate, self.steps, self.minutes = rate, 0, 0.0

    def step(self, images: torch.Tensor, blood: torch.Tensor, done: float) -> float:
        """One update; ``done`` is the share of the run."""
        rate = self.rate * min((self.steps + 1) / 150, 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1))))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=cpu_prefers_bfloat16()):
            logits = self.model(images.to(memory_format=torch.channels_last))
        loss = loss_of(logits.float(), blood)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 3.0)
        self.optimizer.step()
        self.steps += 1
        keep = min(0.998, self.steps / (self.steps + 20))
        self._follow(1 - keep)
        return float(loss.detach())

    @torch.no_grad()
    def _follow(self, share: float) -> None:
        """Let the average follow the weights; the batch counters are copied."""
        now = self.model.state_dict()
        moving = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[name] for name in moving], [now[name] for name in moving], share)
        for name in now.keys() - set(moving):
            self.average[name].copy_(now[name])

    def save(self) -> None:
        """Write the run's state (`run_state.save_state`)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = named("model.", self.model.state_dict()) | named("average.", self.average)
        save_state(self.folder, tensors, self.optimizer, {"steps": self.steps, "minutes": self.minutes})

    def load(self) -> None:
        """Take up what `save` wrote. Raises FileNotFoundError."""
        tensors, progress = load_state(self.folder, self.optimizer)
        self.model.load_state_dict(under("model.", tensors))
        self.average = under("average.", tensors)
        self.steps, self.minutes = int(progress["steps"]), float(progress["minutes"])

    def start_from(self, checkpoint: Path) -> None:
        """Begin with the weights of an exported checkpoint."""
        self.model.load_state_dict(load_file(checkpoint / "model.safetensors"))
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}

    def averaged(self) -> Any:
        """The model with averaged weights."""
        model = smp.Unet("resnet34", encoder_weights=None, in_channels=len(SEEN.channels), classes=1)
        model.load_state_dict(self.average)
        return model.to(memory_format=torch.channels_last).eval()


@torch.inference_mode()
def validate(model: Any, folders: list[Path], stride: int = 3) -> dict[str, float]:
    """Dice and volume over every ``stride``-th slice of whole phantoms."""
    dice, errors, clean = [], [], []
    for folder in folders:
        hu = np.load(folder / "hu_u8.npy", mmap_mode="r")
        truth_mask = np.load(folder / "labels.npy", mmap_mode="r")[::stride] >= BLOOD_LABELS[0]
        found = []
        for z in range(0, len(hu), stride):
            three = np.stack(three_slices(hu, z))
            image = channels(torch.from_numpy(three)[None].float() * 2 - 200)
            rows, columns = image.shape[-2:]
            image = functional.pad(image, (0, -columns % 32, 0, -rows % 32)).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=cpu_prefers_bfloat16()):
                found.append((model(image)[0, 0, :rows, :columns] > 0).numpy())
        mask = np.stack(found)
        spacing = PhantomTruth.model_validate_json((folder / TRUTH_FILE).read_bytes()).spacing_zyx_mm
        ml = float(np.prod(spacing)) * stride / 1000
        true_ml, found_ml = float(truth_mask.sum()) * ml, float(mask.sum()) * ml
        if true_ml >= 20:
            dice.append(2 * float((mask & truth_mask).sum()) / float(mask.sum() + truth_mask.sum()))
            errors.append(abs(found_ml - true_ml) / true_ml)
        elif true_ml == 0:
            clean.append(found_ml)
    return {
        "dice": round(float(np.mean(dice)), 4),
        "dice_median": round(float(np.median(dice)), 4),
        "volume_error": round(float(np.median(errors)), 4),
        "clean_ml_mean": round(float(np.mean(clean)), 2),
        "clean_within_3_ml": round(float(np.mean(np.array(clean) <= 3)), 3),
    }


def trained_on(run: Run) -> str:
    """What the run has opened, by its log."""
    log = [json.loads(line) for line in (run.folder / LOG_FILE).read_text().splitlines()]
    phantoms, real = np.max([entry["studies"] for entry in log if "studies" in entry], axis=0)
    copies = f" and {real} varied copies of real CTs, with inserted injuries or as they are" if real else ""
    return f"{phantoms} synthetic phantoms of trauma-api{copies}; no injured patients"


def export(run: Run, folder: Path, threshold: float) -> None:
    """Averaged weights in 16 bit, with their metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in run.average.items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "model.safetensors").chmod(0o644)
    metadata = Metadata(
        role="segmenter",
        architecture=ARCHITECTURES["segmenter"],
        trained_on=trained_on(run),
        input=SEEN,
        threshold=threshold,
    )
    write_metadata(folder, metadata)


def train(run: Run, arguments: argparse.Namespace) -> None:
    """Train until the minutes are over."""
    roots = (arguments.set, arguments.real_set)
    studies = Studies(roots, arguments.real_share, np.random.default_rng(arguments.seed + run.steps))
    studies.refresh(400)
    began = time.monotonic() - run.minutes * 60
    due = dict.fromkeys(("refresh", "save", "validate", "log"), time.monotonic())
    losses: list[float] = []
    while run.minutes < arguments.minutes:
        losses.append(run.step(*batch_of(studies, arguments.batch), run.minutes / arguments.minutes))
        now = time.monotonic()
        run.minutes = (now - began) / 60
        if now - due["refresh"] > REFRESH_S:
            due["refresh"] = now
            studies.refresh(400)
        if now - due["save"] > SAVE_S:
            due["save"] = now
            run.save()
        if now - due["log"] > LOG_S:
            due["log"] = now
            crops = run.steps * arguments.batch
            opened = [len(pool.studies) for pool in studies.pools]
            note(run, {"loss": round(float(np.mean(losses)), 4), "crops": crops, "studies": opened})
            losses.clear()
        if now - due["validate"] > 60 * arguments.validate_minutes:
            due["validate"] = now
            note(run, validate(run.averaged(), sorted(arguments.validation_set.glob("[!.]*"))[:14]))
    run.save()


def note(run: Run, entry: dict[str, Any]) -> None:
    """Print and keep a line of the log."""
    run.folder.mkdir(parents=True, exist_ok=True)
    log_line(run.folder, {"minutes": round(run.minutes, 2), **entry})


def main() -> None:
    """Train, and export what was trained."""
    parser = argparse.ArgumentParser(description="Trains the hemorrhage segmenter.")
    parser.add_argument("--set", type=Path, default=BUILD / "phantom_full")
    parser.add_argument("--real-set", type=Path, default=BUILD / "real_set")
    parser.add_argument("--real-share", type=float, default=0.15)
    parser.add_argument("--validation-set", type=Path, default=BUILD / "phantom_full_val")
    parser.add_argument("--out", type=Path, default=BUILD / "runs" / "segmenter")
    parser.add_argument("--minutes", type=float, default=75.0)
    parser.add_argument("--validate-minutes", type=float, default=7.0, help="between looks at the validation set")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--start-from", type=Path, help="a checkpoint whose weights to begin with")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--export", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    run = Run(arguments.rate, arguments.out)
    if arguments.resume:
        run.load()
    elif arguments.start_from:
        run.start_from(arguments.start_from)
    if run.minutes < arguments.minutes:
        train(run, arguments)
    if arguments.export:
        export(run, arguments.export, arguments.threshold)


if __name__ == "__main__":
    main()
