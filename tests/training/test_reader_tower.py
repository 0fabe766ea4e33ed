"""What the tower learns of blocks and windows is what the reader gets of whole pictures."""

from typing import Any

import pytest
import torch

from painted_jets import JET_GROUP
from reader_eyes import pooled_patches
from reader_tower import (
    BLOCKS,
    SIDE,
    Heads,
    TowerRun,
    block_targets,
    finer_patches,
    jet_loss,
    losses_of,
    make_tower,
    picture_losses,
    states_of,
    window_states,
)
from train_reader_tower import kept_blocks
from triage_data import FINDINGS, GROUPS
from write_untrained_checkpoints import READER_IMAGE_PIXELS, write_triage


@pytest.fixture(scope="module")
def tower() -> Any:
    torch.manual_seed(0)
    return make_tower().eval()


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 3, READER_IMAGE_PIXELS, READER_IMAGE_PIXELS, generator=torch.manual_seed(1)) * 255.0


@torch.inference_mode()
def test_blocks_are_the_tokens_that_the_projector_gets(tower: Any) -> None:
    pixels = pictures(2)
    everything = torch.arange(BLOCKS * BLOCKS).expand(2, -1)
    blocks = states_of(tower, pixels, everything).mean(dim=(2, 3))
    whole = tower(pixel_values=pixels / 127.5 - 1.0).last_hidden_state
    torch.testing.assert_close(blocks, pooled_patches(whole), rtol=1e-3, atol=1e-3)


@torch.inference_mode()
def test_a_window_is_seen_as_its_blocks_of_the_picture_are(tower: Any) -> None:
    pixels = pictures(1)
    chosen = torch.tensor([[BLOCKS + 2, BLOCKS + 3, 2 * BLOCKS + 2, 2 * BLOCKS + 3]])
    edge = READER_IMAGE_PIXELS // BLOCKS
    window = pixels[:, :, edge : 3 * edge, 2 * edge : 4 * edge]
    there = states_of(tower, pixels, chosen)
    torch.testing.assert_close(window_states(tower, window, torch.tensor([[2, 4]])), there)


def test_targets_lie_where_their_patches_do() -> None:
    patches = torch.zeros(1, GROUPS, SIDE // 2, SIDE // 2)
    patches[0, JET_GROUP, 5, 2] = 0.5
    targets = block_targets(patches)
    assert targets[0, 2 * BLOCKS + 1, 1, 0, JET_GROUP] == 0.5
    assert targets.sum() == 0.5


def test_a_block_with_a_jet_is_looked_at_before_all_others() -> None:
    targets = torch.zeros(1, BLOCKS * BLOCKS, 2, 2, GROUPS)
    targets[0, 40, 0, 1, JET_GROUP] = 0.3
    pixels = torch.zeros(1, 3, READER_IMAGE_PIXELS, READER_IMAGE_PIXELS)
    pixels[:, :, :56] = 120.0
    kept = kept_blocks(pixels, targets, 17)
    assert set(kept[0].tolist()) == {40, *range(16)}


def test_a_finer_patch_answers_an_even_one_alike() -> None:
    weight = torch.rand(4, 3, 10, 10, generator=torch.manual_seed(2))
    torch.testing.assert_close(finer_patches(weight).sum(dim=(1, 2, 3)), weight.sum(dim=(1, 2, 3)), rtol=0.02, atol=0.5)


def test_jets_are_told_from_blood_and_from_nothing_else() -> None:
    targets = torch.zeros(1, 3, GROUPS)
    targets[0, 0, JET_GROUP], targets[0, 1, 9] = 0.2, 0.9
    good, bad = torch.tensor([[4.0, -4.0, 0.0]]), torch.tensor([[-4.0, 4.0, 0.0]])
    assert jet_loss(good, targets) < 0.1 < 3.0 < jet_loss(bad, targets)
    assert jet_loss(bad + torch.tensor([[0.0, 0.0, 9.0]]), targets) == jet_loss(bad, targets)
    assert jet_loss(bad[:, :1], targets[:, :1]) == 0.0


def test_a_run_learns_goes_on_after_a_stop_and_begins_from_triage(tmp_path: Any) -> None:
    write_triage(tmp_path / "triage")
    run = TowerRun(tmp_path, 1e-3, 0)
    run.start_from(tmp_path / "triage")
    pixels, targets = pictures(2), torch.zeros(2, 4, 2, 2, GROUPS)
    targets[0, 1, 0, 0, JET_GROUP], targets[1, ..., 9] = 0.8, 1.0
    blocks, weights = torch.tensor([[0, 5, 9, 20], [3, 4, 8, 30]]), torch.ones(GROUPS)

    def losses() -> list[torch.Tensor]:
        states = states_of(run.swift["tower"], pixels, blocks)
        parts = losses_of(run.swift["heads"], states, targets, weights)
        findings = torch.zeros(2, len(FINDINGS))
        return [*parts.values(), *picture_losses(run.swift["heads"], states, targets, findings).values()]

    before = torch.stack(losses()).sum().item()
    for _ in range(6):
        run.step(losses())
    after = torch.stack(losses()).sum().item()
    assert after < before
    run.save()
    again = TowerRun(tmp_path, 1e-3, 5)
    again.load()
    assert again.step_count == 6
    run = again
    assert torch.stack(losses()).sum().item() == pytest.approx(after)


def test_heads_take_the_towers_width() -> None:
    assert Heads(192).pairs(torch.zeros(1, 192)).shape == (1, GROUPS)
    assert Heads(192).peak(torch.zeros(1, 1)).item() == pytest.approx(Heads(192).peak.bias.item())
