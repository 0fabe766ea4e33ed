"""Trains the reader's vision tower on finer patches than triage has, as jets are smaller than a patch of triage.

    python training/train_reader_tower.py --minutes 64 --windows-first 22
    python training/train_reader_tower.py --minutes 100 --resume --export build/runs/tower/tower.safetensors

Pictures of 224 pixels in patches of 7, of which the reader's projector averages 4 x 4 to a token. The tower begins as
triage's. It learns what each 2 x 2 and each 4 x 4 patches hold and what a slice shows, from blocks of 4 x 4 patches:
most of those of a body in whole pictures, and windows of four blocks around blood, half of them with a painted jet.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional

from jet_windows import WindowBatch, Windows
from painted_jets import BLOOD_GROUPS, JET_GROUP
from reader_tower import (
    BLOCK,
    LEAST_BLOOD,
    LEAST_JET,
    TowerRun,
    block_logits,
    block_targets,
    losses_of,
    pair_logits,
    picture_losses,
    states_of,
    window_states,
)
from roc import area_under_roc
from train_triage import AIR_LEVEL, INJURY_PATCH_WEIGHT, set_rate
from trauma_api.engines.device import cpu_prefers_bfloat16, silence_libraries
from trauma_api.settings import PACKAGED_CHECKPOINTS
from triage_data import GROUPS, INJURY_GROUPS, SliceSet, augmented
from write_untrained_checkpoints import READER_IMAGE_PIXELS, READER_PATCH_PIXELS

BUILD = Path(__file__).parents[1] / "build"
SAVE_S, CHECK_S, LOG_S = 180.0, 240.0, 60.0
TWIN_SHARE = 0.5
"""Of the injured pictures, how many have themselves, without a painted jet, beside them instead of a clean one."""
WINDOWS_WEIGHT = 0.7
_CHECKED_WINDOWS = 768


def kept_blocks(pixels: torch.Tensor, targets: torch.Tensor, count: int) -> torch.Tensor:
    """Indices (pictures, count) of blocks: those with a jet first, then of the body, then air, each in random order."""
    red = functional.avg_pool2d(pixels[:, :1], READER_PATCH_PIXELS * BLOCK).flatten(1)
    jets = targets[..., JET_GROUP].amax(dim=(2, 3)) >= LEAST_JET
    return ((red > AIR_LEVEL).float() + jets.float() + torch.rand_like(red)).topk(count, dim=1).indices


def whole_losses(
    run: TowerRun, training: SliceSet, rng: np.random.Generator, arguments: argparse.Namespace, weights: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Of whole pictures, some of them beside the same picture without a painted jet."""
    rows = training.balanced(rng, arguments.pictures)
    twins = 2 * np.flatnonzero(rng.random(len(rows) // 2) < TWIN_SHARE)
    rows[twins + 1] = rows[twins]
    batch = augmented(training.batch(rows, rng), rng)
    targets = block_targets(batch.patches)
    kept = kept_blocks(batch.pixels, targets, arguments.blocks)
    states = states_of(run.swift["tower"], batch.pixels, kept)
    targets = targets.gather(1, kept[:, :, None, None, None].expand(-1, -1, 2, 2, GROUPS))
    heads = run.swift["heads"]
    return losses_of(heads, states, targets, weights) | picture_losses(heads, states, targets, batch.findings)


def take_step(
    run: TowerRun, training: SliceSet, windows: Windows, rng: np.random.Generator, arguments: argparse.Namespace
) -> dict[str, float]:
    """One step of the optimizer; returns the parts of the loss."""
    set_rate(run.optimizer, arguments.rate, run.elapsed_s / (60 * arguments.minutes))
    weights = torch.ones(GROUPS)
    weights[INJURY_GROUPS] = INJURY_PATCH_WEIGHT
    # windows alone teach jets several times faster; pictures come when they are known
    whole = {}
    if run.elapsed_s >= 60 * arguments.windows_first:
        whole = whole_losses(run, training, rng, arguments, weights)
    near = windows.batch(rng, arguments.windows if whole else 2 * arguments.windows)
    states = window_states(run.swift["tower"], near.pixels, near.corners)
    around = losses_of(run.swift["heads"], states, block_targets(near.patches), weights)
    run.step([*whole.values(), *(WINDOWS_WEIGHT * value for value in around.values())])
    parts = {**whole, **{f"near_{name}": value for name, value in around.items()}}
    return {name: value.item() for name, value in parts.items()}


@torch.inference_mode()
def check(run: TowerRun, unseen: WindowBatch) -> dict[str, float | None]:
    """AUROC of telling patches with a jet from those with blood alone, and windows with one from those without."""
    targets = block_targets(unseen.patches)
    pairs, blocks = [], []
    for start in range(0, len(unseen.pixels), 64):
        pixels, corners = unseen.pixels[start : start + 64], unseen.corners[start : start + 64]
        with torch.autocast("cpu", torch.bfloat16, enabled=cpu_prefers_bfloat16()):
            states = window_states(run.average["tower"], pixels, corners)
            pairs.append(pair_logits(run.average["heads"], states)[..., JET_GROUP])
            blocks.append(block_logits(run.average["heads"], states)[..., JET_GROUP])
    found, found_blocks = torch.cat(pairs), torch.cat(blocks)
    jet = targets[..., JET_GROUP] >= LEAST_JET
    blood = ~jet & (targets[..., BLOOD_GROUPS].sum(dim=-1) >= LEAST_BLOOD)
    truth = np.r_[np.ones(int(jet.sum()), bool), np.zeros(int(blood.sum()), bool)]
    shown = jet.flatten(1).any(1).numpy()
    return {
        "patch_auroc": area_under_roc(torch.cat([found[jet], found[blood]]).numpy(), truth),
        "window_auroc": area_under_roc(found.flatten(1).amax(1).numpy(), shown),
        "window_by_blocks_auroc": area_under_roc(found_blocks.amax(1).numpy(), shown),
    }


def train(run: TowerRun, training: SliceSet, validation: SliceSet, arguments: argparse.Namespace) -> None:
    """Train until ``minutes`` of the run are over, in sum over its resumptions."""
    windows = Windows(training)
    unseen = Windows(validation).batch(np.random.default_rng(1), _CHECKED_WINDOWS)
    # a resumed run goes on with other pictures than it began with
    rng = np.random.default_rng([arguments.seed, run.step_count])
    torch.manual_seed(arguments.seed + run.step_count)
    before_s, began = run.elapsed_s, time.monotonic()
    logged = saved = checked = before_s
    since: dict[str, float] = {}
    while run.elapsed_s < 60 * arguments.minutes:
        values = take_step(run, training, windows, rng, arguments)
        since = {name: 0.98 * since.get(name, value) + 0.02 * value for name, value in values.items()}
        run.elapsed_s = before_s + time.monotonic() - began
        if run.elapsed_s - saved > SAVE_S:
            saved = run.elapsed_s
            run.save()
        if run.elapsed_s - checked > CHECK_S:
            checked = run.elapsed_s
            log(run, **check(run, unseen))
        if run.elapsed_s - logged > LOG_S:
            logged = run.elapsed_s
            log(run, **{name: round(value, 4) for name, value in since.items()})
    # an export beside a run that is still going must not put an older state in its place
    if run.elapsed_s > before_s:
        run.save()
    log(run, **check(run, unseen))


def log(run: TowerRun, **values: float | None) -> None:
    """Print a line."""
    print(json.dumps({"minutes": round(run.elapsed_s / 60, 2), "step": run.step_count, **values}), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, default=BUILD / "phantom_set")
    parser.add_argument("--validation-set", type=Path, default=BUILD / "phantom_set_val")
    parser.add_argument("--out", type=Path, default=BUILD / "runs" / "tower")
    parser.add_argument(
        "--triage", type=Path, default=PACKAGED_CHECKPOINTS / "triage", help="whose tower to begin with"
    )
    parser.add_argument("--minutes", type=float, default=64.0)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--pictures", type=int, default=20, help="in a batch, beside windows")
    parser.add_argument("--windows", type=int, default=32, help="in a batch; twice as many where there are no pictures")
    parser.add_argument("--blocks", type=int, default=28, help="of a picture that are looked at")
    parser.add_argument("--windows-first", type=float, default=20.0, help="minutes at the start without pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--export", type=Path, help="where the averaged tower goes, in 16 bit, for train_reader.py")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    silence_libraries()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    run = TowerRun(arguments.out, arguments.rate, arguments.seed)
    if arguments.resume:
        run.load()
    else:
        run.start_from(arguments.triage)
    training, validation = (SliceSet(path, READER_IMAGE_PIXELS) for path in (arguments.set, arguments.validation_set))
    if not (training.refresh() and validation.refresh()):
        raise FileNotFoundError("the sets hold no phantom; make them with training/phantom_set.py")
    train(run, training, validation, arguments)
    if arguments.export:
        tower = {name: value.half().contiguous() for name, value in run.average["tower"].state_dict().items()}
        save_file(tower, arguments.export)


if __name__ == "__main__":
    main()
