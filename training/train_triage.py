"""Trains the phantom profile's triage model (`SiglipModel`) from scratch on build/phantom_set.

    python training/train_triage.py --minutes 90                                          (start)
    python training/train_triage.py --minutes 90 --resume                                 (go on after a stop)
    python training/train_triage.py --resume --minutes 0 --export src/trauma_api/checkpoints/triage
    python training/train_triage.py --start-from src/trauma_api/checkpoints/triage --out build/runs/next

The third one exports what a run has reached; with --export on the others, the end of the run does the same. The last
one begins with the weights of a checkpoint.

Each slice is compared with all statements at once by SigLIP's sigmoid loss, several of which may be true. Two heads
that are dropped afterwards teach the tower where things are: one per patch, one per slice. Until the last part of the
run, patches of plain air are mostly left out, which makes a step about twice as fast.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from transformers import SiglipModel

from roc import area_under_roc
from trauma_api.engines.checkpoints import Calibration, Metadata
from trauma_api.engines.device import cpu_prefers_bfloat16, silence_libraries
from trauma_api.engines.siglip import SiglipTriage
from trauma_api.settings import TRIAGE_STATEMENTS
from triage_data import GROUPS, INJURY_GROUPS, Batch, SliceSet, augmented
from triage_run import Progress, Run, compare, embed_statements, see
from write_untrained_checkpoints import IMAGE_PIXELS, write_metadata, write_triage

BUILD = Path(__file__).parents[1] / "build"
REFRESH_S, SAVE_S, VALIDATE_S, LOG_S = 120.0, 180.0, 300.0, 30.0
WARM_UP_SHARE = 0.02
INJURY_PATCH_WEIGHT = 4.0
AIR_LEVEL = 12.0
"""Mean red of a patch, about -930 HU, up to which it is air around the patient."""
THRESHOLD = 0.25
"""The service's default threshold of suspicion."""


def set_rate(optimizer: torch.optim.Optimizer, peak: float, done: float) -> None:
    """Linear warm-up, then a cosine down to a hundredth; ``done`` is the share of the run, 0 to 1."""
    falling = 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
    for group in optimizer.param_groups:
        group["lr"] = peak * group["factor"] * min((done + 1e-4) / WARM_UP_SHARE, falling)


def kept_patches(pixels: torch.Tensor, patch_pixels: int, count: int) -> torch.Tensor:
    """Indices (slices, count) of the patches to look at: those of the body first, then air, each in random order."""
    red = functional.avg_pool2d(pixels[:, :1], patch_pixels).flatten(1)
    order = (red > AIR_LEVEL).float() + torch.rand_like(red)
    # below 1 lies air alone, above 1 the body alone
    return order.topk(count, dim=1).indices


def losses_of(run: Run, batch: Batch, kept_count: int | None) -> dict[str, torch.Tensor]:
    """The parts of the loss. ``kept_count`` None looks at all patches."""
    patch_pixels = run.model.config.vision_config.patch_size
    kept = None if kept_count is None else kept_patches(batch.pixels, patch_pixels, kept_count)
    targets = batch.patches.flatten(2).transpose(1, 2)
    if kept is not None:
        targets = targets.gather(1, kept[:, :, None].expand(-1, -1, GROUPS))
    states, pooled = see(run.swift.vision, batch.pixels, kept)
    patch_logits, slice_logits = run.swift.heads.patches(states), run.swift.heads.slices(pooled)
    with torch.autocast("cpu", torch.bfloat16, enabled=cpu_prefers_bfloat16()):
        statements = embed_statements(run.model, run.tokens)
    logits = compare(run.model, pooled, statements)
    # half the difference of two logits is one logit
    suspicion = 0.5 * (logits[:, :-1].amax(dim=1) - logits[:, -1])
    bce = functional.binary_cross_entropy_with_logits
    weights = torch.ones(GROUPS)
    weights[INJURY_GROUPS] = INJURY_PATCH_WEIGHT
    return {
        "statements": bce(logits, batch.statements, weight=batch.statement_weights),
        "suspicion": bce(suspicion, batch.injured),
        "slices": 0.5 * bce(slice_logits.float(), batch.findings),
        "patches": 5.0 * bce(patch_logits.float(), targets, weight=weights),
    }


def train(run: Run, training: SliceSet, validation: SliceSet, arguments: argparse.Namespace) -> None:
    """Train until ``minutes`` of the run are over, in sum over its resumptions."""
    budget_s, before_s, began = arguments.minutes * 60.0, run.progress.elapsed_s, time.monotonic()
    # a resumed run goes on with other slices than it began with
    rng = np.random.default_rng([arguments.seed, run.progress.step])
    torch.manual_seed(arguments.seed + run.progress.step)
    refreshed = saved = validated = logged = before_s
    since: dict[str, float] = {}
    logged_images = run.progress.images
    while (now := run.progress.elapsed_s) < budget_s:
        if now - refreshed > REFRESH_S:
            refreshed = now
            run.log(phantoms=training.refresh())
        if now - saved > SAVE_S:
            saved = now
            run.save()
        if now - validated > VALIDATE_S:
            validated = now
            if validation.refresh():
                run.log(**validate(run, validation)[1])
        values = take_step(run, training, rng, now / budget_s, arguments)
        since = {name: 0.97 * since.get(name, value) + 0.03 * value for name, value in values.items()}
        step, images, _ = run.progress
        run.progress = Progress(step + 1, images + arguments.batch, before_s + time.monotonic() - began)
        if now - logged > LOG_S:
            speed = (images - logged_images) / (now - logged)
            run.log(**{name: round(value, 4) for name, value in since.items()}, images_per_s=round(speed, 1))
            logged, logged_images = now, images
    # an export beside a run that is still going must not put an older state in its place
    if run.progress.elapsed_s > before_s:
        run.save()


def take_step(
    run: Run, training: SliceSet, rng: np.random.Generator, done: float, arguments: argparse.Namespace
) -> dict[str, float]:
    """One step of the optimizer; returns the parts of the loss."""
    batch = augmented(training.batch(training.balanced(rng, arguments.batch)), rng)
    kept_count = None if done > 1.0 - arguments.full_share else arguments.patches
    set_rate(run.optimizer, arguments.rate, done)
    losses = losses_of(run, batch, kept_count)
    run.optimizer.zero_grad(set_to_none=True)
    run.backward(torch.stack(list(losses.values())).sum())
    nn.utils.clip_grad_norm_([*run.model.parameters(), *run.heads.parameters()], 1.0)
    run.optimizer.step()
    run.refresh_swift()
    run.update_average()
    return {name: value.item() for name, value in losses.items()}


@torch.inference_mode()
def logits_of(run: Run, slices: SliceSet, batch_size: int = 64) -> NDArray[np.float32]:
    """Logits (slices, statements) of the averaged model, from all patches."""
    statements = embed_statements(run.average, run.tokens)
    parts = []
    for start in range(0, len(slices), batch_size):
        rows = np.arange(start, min(start + batch_size, len(slices)))
        with torch.autocast("cpu", torch.bfloat16, enabled=cpu_prefers_bfloat16()):
            _, pooled = see(run.average.vision_model, slices.batch(rows).pixels)
        parts.append(compare(run.average, pooled, statements).numpy())
    return np.concatenate(parts)


def validate(run: Run, slices: SliceSet) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Uncalibrated suspicion, and AUROC by slice, by study (its three most suspicious slices) and of each statement.

    Statements are judged on the slice alone.
    """
    logits = logits_of(run, slices)
    alone = logits[:, :-1].max(axis=1) - logits[:, -1]
    difference = slices.with_neighbours(alone)
    studies = [slices.study == study for study in range(slices.study.max() + 1)]
    highest = np.array([np.sort(difference[study])[-3:].mean() for study in studies])
    injured = np.array([slices.injured[study].any() for study in studies])
    by_statement: dict[str, float | None] = {
        str(name): area_under_roc(logits[:, index], slices.statements[:, index])
        for index, name in enumerate(TRIAGE_STATEMENTS)
    }
    return difference, {
        "slice_auroc": area_under_roc(difference, slices.injured),
        "slice_alone_auroc": area_under_roc(alone, slices.injured),
        "study_auroc": area_under_roc(highest, injured),
        **by_statement,
        "logit_scale": round(float(run.average.logit_scale.exp()), 2),
    }


def calibrate(difference: NDArray[np.floating], injured: NDArray[np.bool_], sensitivity: float) -> Calibration:
    """Logistic regression of the truth on the difference of logits.

    The offset is raised where the service's threshold would otherwise find less than ``sensitivity`` of the injured
    slices. Raises ValueError where the difference does not rise with the truth.
    """
    design = np.stack([difference, np.ones_like(difference)], axis=1).astype(np.float64)
    weights = np.zeros(2)
    for _ in range(50):
        probability = 1.0 / (1.0 + np.exp(-np.clip(design @ weights, -30.0, 30.0)))
        curvature = design.T @ (design * (probability * (1.0 - probability))[:, None])
        weights += np.linalg.solve(curvature + 1e-3 * np.eye(2), design.T @ (injured - probability) - 1e-3 * weights)
    scale, offset = float(weights[0]), float(weights[1])
    if scale <= 0.0:
        raise ValueError("the logits tell injured slices from clean ones no better than chance; train for longer")
    lowest = float(np.quantile(difference[injured], 1.0 - sensitivity, method="lower"))
    needed = math.log(THRESHOLD / (1.0 - THRESHOLD)) - scale * lowest
    return Calibration(scale=round(scale, 5), offset=round(max(offset, needed), 5))


def export(run: Run, validation: SliceSet, training: SliceSet, folder: Path, sensitivity: float) -> None:
    """Write the averaged model as a checkpoint, calibrated on all validation slices, and load it for a check."""
    difference, measured = validate(run, validation)
    calibration = calibrate(difference, validation.injured, sensitivity)
    suspicion = 1.0 / (1.0 + np.exp(-(calibration.scale * difference + calibration.offset)))
    found = suspicion >= THRESHOLD
    write_triage(folder)
    model: Any = SiglipModel.from_pretrained(folder, dtype=torch.float16)
    model.load_state_dict(run.average.state_dict())
    model.save_pretrained(folder)
    # safetensors writes files that only their owner may read; a package's files are for everyone
    (folder / "model.safetensors").chmod(0o644)
    trained_on = (
        f"{len(training.seeds)} synthetic CT phantoms of trauma_api.phantom (seeds {min(training.seeds)} to "
        f"{max(training.seeds)}), {run.progress.images} slices; no patient's CT"
    )
    write_metadata(
        folder, Metadata(role="triage", architecture="SiglipModel", trained_on=trained_on, calibration=calibration)
    )
    run.log(
        exported=folder.name,
        **measured,
        sensitivity=round(float(found[validation.injured].mean()), 4),
        specificity=round(float((~found)[~validation.injured].mean()), 4),
        largest_difference_of_logits=check_export(run, validation, folder),
        **calibration.model_dump(),
    )


@torch.inference_mode()
def check_export(run: Run, slices: SliceSet, folder: Path) -> float:
    """The largest difference of a logit between the engine on ``folder`` and the run's model, on some slices.

    Raises ValueError where the two disagree.
    """
    pixels = slices.batch(np.linspace(0, len(slices) - 1, 16).astype(int)).pixels
    engine = SiglipTriage.load(str(folder), tuple(TRIAGE_STATEMENTS.values()), device="cpu")
    there = engine.score(list(pixels.permute(0, 2, 3, 1).byte().numpy())).logits
    pooled = see(run.average.vision_model, pixels)[1]
    here = compare(run.average, pooled, embed_statements(run.average, run.tokens)).numpy()
    alike = float((there * here).sum() / (np.linalg.norm(there) * np.linalg.norm(here)))
    if alike < 0.999:
        raise ValueError(f"the exported checkpoint gives other logits than the run (cosine {alike:.4f})")
    return round(float(np.abs(there - here).max()), 4)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, default=BUILD / "phantom_set")
    parser.add_argument("--validation-set", type=Path, default=BUILD / "phantom_set_val")
    parser.add_argument("--validation-stride", type=int, default=3, help="slices, while training")
    parser.add_argument("--out", type=Path, default=BUILD / "runs" / "triage")
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--patches", type=int, default=144, help="patches of a slice that are looked at")
    parser.add_argument("--full-share", type=float, default=0.1, help="last part of the run, with all patches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--start-from", type=Path, help="a checkpoint whose weights to begin with")
    parser.add_argument("--export", type=Path)
    parser.add_argument("--sensitivity", type=float, default=0.9, help="least share of injured slices above threshold")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    silence_libraries()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    training = SliceSet(arguments.set, IMAGE_PIXELS)
    validation = SliceSet(arguments.validation_set, IMAGE_PIXELS, arguments.validation_stride)
    if not training.refresh():
        raise FileNotFoundError(f"there is no phantom in {arguments.set}; make it with training/phantom_set.py")
    run = Run(arguments.out, arguments.rate, arguments.seed)
    if arguments.resume:
        run.load()
    elif run.has_state:
        raise FileExistsError(f"there is a run in {arguments.out}; go on with it by --resume, or name another --out")
    elif arguments.start_from:
        run.start_from(arguments.start_from)
    train(run, training, validation, arguments)
    if arguments.export:
        everything = SliceSet(arguments.validation_set, IMAGE_PIXELS)
        everything.refresh()
        export(run, everything, training, arguments.export, arguments.sensitivity)


if __name__ == "__main__":
    main()
