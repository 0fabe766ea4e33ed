"""The reader's vision tower while it learns: what it sees of blocks of 4 x 4 patches, and the state of its training."""

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import SiglipVisionModel

from painted_jets import BLOOD_GROUPS, JET_GROUP
from run_state import load_state, named, save_state, under
from trauma_api.engines.device import choose_vision_dtype
from triage_data import FINDINGS, GROUPS
from write_untrained_checkpoints import READER_IMAGE_PIXELS, READER_PATCH_PIXELS, vision_config

BLOCK = 4
"""Patches along each edge of a block, which the reader's projector averages to a token."""
SIDE = READER_IMAGE_PIXELS // READER_PATCH_PIXELS
BLOCKS = SIDE // BLOCK
"""Along each edge of a picture."""
LEAST_JET, LEAST_BLOOD = 0.02, 0.15
"""Shares of a patch from which it counts as one with a jet, and as one that could have one."""
_EDGE = READER_PATCH_PIXELS * BLOCK
_EMA_DECAY = 0.998


class Heads(nn.Module):
    """What two by two patches hold, what a block holds, what a picture shows, and whether it shows a jet at all."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pairs, self.blocks = nn.Linear(width, GROUPS), nn.Linear(width, GROUPS)
        self.slices, self.peak = nn.Linear(width, len(FINDINGS)), nn.Linear(1, 1)
        for layer, bias in ((self.pairs, -3.0), (self.blocks, -3.0), (self.slices, -1.5), (self.peak, -2.0)):
            nn.init.constant_(layer.bias, bias)
        nn.init.ones_(self.peak.weight)


def make_tower() -> Any:
    """A tower as the reader's checkpoint has it."""
    model = SiglipVisionModel(vision_config(READER_IMAGE_PIXELS, READER_PATCH_PIXELS, use_head=False))
    return getattr(model, "vision_model", model)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Of a safetensors file, in 32 bit."""
    return {name: value.float() for name, value in load_file(path).items()}


def block_ids() -> torch.Tensor:
    """(blocks, 16): the patches of each block."""
    patches = torch.arange(SIDE * SIDE).reshape(BLOCKS, BLOCK, BLOCKS, BLOCK)
    return patches.permute(0, 2, 1, 3).reshape(BLOCKS * BLOCKS, BLOCK * BLOCK)


_IDS = block_ids()


def states_of(tower: Any, pixels: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    """(pictures, blocks, 4, 4, width) of the blocks (pictures, blocks) of whole pictures of 0..255."""
    cut = pixels.reshape(len(pixels), 3, BLOCKS, _EDGE, BLOCKS, _EDGE).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    return _encoded(tower, cut.gather(1, blocks[:, :, None, None, None].expand(-1, -1, 3, _EDGE, _EDGE)), blocks)


def window_states(tower: Any, pixels: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
    """The same of windows of 2 x 2 blocks that begin at ``corners`` (windows, 2), in coarse patches of half a block."""
    row, column = corners[:, 0] // 2, corners[:, 1] // 2
    blocks = torch.stack([(row + i) * BLOCKS + column + j for i in (0, 1) for j in (0, 1)], dim=1)
    cut = pixels.reshape(len(pixels), 3, 2, _EDGE, 2, _EDGE).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    return _encoded(tower, cut, blocks)


def _encoded(tower: Any, cut: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    """``cut`` is (pictures, blocks, 3, edge, edge)."""
    embeddings = tower.embeddings
    count, chosen = cut.shape[:2]
    levels = (cut / 127.5 - 1.0).to(embeddings.patch_embedding.weight.dtype)
    seen = embeddings.patch_embedding(levels.flatten(0, 1)).flatten(2).transpose(1, 2)
    seen = seen.reshape(count, chosen * BLOCK * BLOCK, -1) + embeddings.position_embedding(_IDS[blocks].flatten(1))
    states = tower.post_layernorm(tower.encoder(inputs_embeds=seen).last_hidden_state)
    return torch.as_tensor(states.reshape(count, chosen, BLOCK, BLOCK, -1))


def block_targets(patches: torch.Tensor) -> torch.Tensor:
    """(pictures, groups, rows, columns) of coarse patches to (pictures, blocks, 2, 2, groups)."""
    count, groups, rows, columns = patches.shape
    cut = patches.reshape(count, groups, rows // 2, 2, columns // 2, 2).permute(0, 2, 4, 3, 5, 1)
    return cut.reshape(count, (rows // 2) * (columns // 2), 2, 2, groups)


def pair_logits(heads: Any, states: torch.Tensor) -> torch.Tensor:
    """(pictures, blocks, 2, 2, groups)."""
    count, blocks, *_, width = states.shape
    pairs = states.reshape(count, blocks, 2, 2, 2, 2, width).mean(dim=(3, 5))
    return torch.as_tensor(heads.pairs(pairs).float())


def block_logits(heads: Any, states: torch.Tensor) -> torch.Tensor:
    """(pictures, blocks, groups)."""
    return torch.as_tensor(heads.blocks(states.mean(dim=(2, 3))).float())


def losses_of(
    heads: Any, states: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Of the pairs and blocks; ``targets`` (pictures, blocks, 2, 2, groups)."""
    pairs, blocks = pair_logits(heads, states), block_logits(heads, states)
    shares = targets.mean(dim=(2, 3))
    # a block with a jet anywhere in it is one with a jet
    any_jet = shares.clone()
    any_jet[..., JET_GROUP] = targets[..., JET_GROUP].amax(dim=(2, 3))
    bce = functional.binary_cross_entropy_with_logits
    return {
        "jets": 2.0 * jet_loss(pairs[..., JET_GROUP].flatten(1), targets.flatten(1, 3)),
        "jet_blocks": 2.0 * jet_loss(blocks[..., JET_GROUP], any_jet),
        "pairs": 3.0 * bce(pairs, targets, weight=weights),
        "blocks": 2.0 * bce(blocks, shares, weight=weights),
    }


def jet_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Of telling patches with a jet from those with blood alone, both kinds counting alike; 0 where a batch has none.

    Jets are so few of all patches that the loss over these teaches nothing of them.
    """
    jets = targets[..., JET_GROUP] >= LEAST_JET
    blood = ~jets & (targets[..., BLOOD_GROUPS].sum(dim=-1) >= LEAST_BLOOD)
    if not (jets.any() and blood.any()):
        return logits.sum() * 0.0
    return 0.5 * (functional.softplus(-logits[jets]).mean() + functional.softplus(logits[blood]).mean())


def picture_losses(
    heads: Any, states: torch.Tensor, targets: torch.Tensor, findings: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Of what a picture shows, and of whether any of its blocks looks like a jet, be that in blood or elsewhere."""
    bce = functional.binary_cross_entropy_with_logits
    highest = block_logits(heads, states)[..., JET_GROUP].logsumexp(dim=1, keepdim=True)
    peak = heads.peak(highest.to(states.dtype)).float().squeeze(1)
    shows = (targets[..., JET_GROUP].flatten(1).amax(dim=1) >= LEAST_JET).float()
    seen = heads.slices(states.mean(dim=(1, 2, 3))).float()
    return {"peak": bce(peak, shows), "slices": 0.5 * bce(seen, findings)}


class TowerRun:
    """Weights in 32 bit, the ones in 16 bit that are computed with, their average, and the optimizer."""

    def __init__(self, folder: Path, rate: float, seed: int) -> None:
        torch.manual_seed(seed)
        self.folder = folder
        tower = make_tower()
        # the backward pass of fused attention takes longer on a CPU than plain products of few patches
        tower.set_attn_implementation("eager")
        self.model = nn.ModuleDict({"tower": tower, "heads": Heads(tower.config.hidden_size)})
        self.average = copy.deepcopy(self.model).eval().requires_grad_(requires_grad=False)
        self.swift: Any = copy.deepcopy(self.model).to(choose_vision_dtype(torch.device("cpu")))
        matrices = [p for p in self.model.parameters() if p.ndim >= 2]
        others = [p for p in self.model.parameters() if p.ndim < 2]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": 0.05, "factor": 1.0},
            {"params": others, "weight_decay": 0.0, "factor": 1.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)
        self.step_count, self.elapsed_s = 0, 0.0

    def start_from(self, triage: Path) -> None:
        """Begin with the tower of a triage checkpoint, its patches cut finer; the heads learn anew."""
        seen = under("vision_model.", read_weights(triage / "model.safetensors"))
        tower = {name: value for name, value in seen.items() if not name.startswith("head.")}
        for name, finer in (("patch_embedding", finer_patches), ("position_embedding", finer_positions)):
            key = f"embeddings.{name}.weight"
            tower[key] = finer(tower[key])
        for model in (self.model, self.average):
            model["tower"].load_state_dict(tower)
        self._refresh()

    def step(self, losses: list[torch.Tensor]) -> None:
        """One of the optimizer."""
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(losses).sum())
        for kept, used in zip(self.model.parameters(), self.swift.parameters(), strict=True):
            kept.grad = None if used.grad is None else used.grad.float()
        self.swift.zero_grad(set_to_none=True)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self._refresh()
        share = 1.0 - min(_EMA_DECAY, (1.0 + self.step_count) / (10.0 + self.step_count))
        torch._foreach_lerp_(list(self.average.parameters()), [p.detach() for p in self.model.parameters()], share)
        self.step_count += 1

    def save(self) -> None:
        """Write the run's state (`run_state.save_state`)."""
        tensors = named("model.", self.model.state_dict()) | named("average.", self.average.state_dict())
        save_state(self.folder, tensors, self.optimizer, {"step": self.step_count, "elapsed_s": self.elapsed_s})

    def load(self) -> None:
        """Take up what `save` wrote. Raises FileNotFoundError."""
        tensors, progress = load_state(self.folder, self.optimizer)
        self.model.load_state_dict(under("model.", tensors))
        self.average.load_state_dict(under("average.", tensors))
        self._refresh()
        self.step_count, self.elapsed_s = progress["step"], progress["elapsed_s"]

    @torch.no_grad()
    def _refresh(self) -> None:
        torch._foreach_copy_(list(self.swift.parameters()), list(self.model.parameters()))


def finer_patches(weight: torch.Tensor) -> torch.Tensor:
    """(width, 3, rows, columns) of a coarse patch's linear map to a finer one's, which answers a flat patch alike."""
    side = READER_PATCH_PIXELS
    finer = functional.interpolate(weight, (side, side), mode="area")
    return finer * (weight.shape[-1] / side) ** 2


def finer_positions(weight: torch.Tensor) -> torch.Tensor:
    """(coarse patches, width) to (fine patches, width)."""
    side = round(len(weight) ** 0.5)
    grid = weight.T.reshape(1, -1, side, side)
    finer = functional.interpolate(grid, (SIDE, SIDE), mode="bicubic", align_corners=False)
    return finer.flatten(2)[0].T.contiguous()
