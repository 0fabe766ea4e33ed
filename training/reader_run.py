"""What a reader training keeps: the model, its average, the optimizer, and how far it is."""

import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import DynamicCache, Gemma3ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from reader_data import Batch, Writer
from reader_text import tokenizer_texts
from run_state import PROGRESS_FILE, WEIGHTS_FILE, load_state, log_line, named, save_state, under
from trauma_api.engines.decoding import ModelState
from trauma_api.engines.device import cpu_prefers_bfloat16
from triage_data import FINDINGS
from write_untrained_checkpoints import write_reader

WEIGHT_DECAY = 0.1
EMA_DECAY = 0.997
_POST_NORM = -0.7
_TOLD_AFTER = 2
"""Layers after which each picture's end must tell what the picture shows; the rest of them joins the pictures."""


class Progress(NamedTuple):
    """How far a run is."""

    step: int = 0
    tokens: int = 0
    elapsed_s: float = 0.0


def cooled(last_norm: torch.Tensor, temperature: float) -> torch.Tensor:
    """The last norm's weight that divides all logits by ``temperature``: Gemma's norms multiply by one plus theirs."""
    return (1.0 + last_norm) / temperature - 1.0


def start_folder(other: Path) -> Path:
    """Where a run has what it began with, tokenizer and configuration; a checkpoint is that itself."""
    start = other / "start"
    return start if start.is_dir() else other


def start_model(model: Any) -> None:
    """A start from which copying is learnt in minutes, where the default one does not learn it at all."""
    for name, weight in model.model.language_model.named_parameters():
        if weight.ndim == 2:
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        elif "post_attention" in name or "post_feedforward" in name:
            nn.init.constant_(weight, _POST_NORM)
    projection = model.model.multi_modal_projector.mm_input_projection_weight
    nn.init.normal_(projection, std=projection.shape[0] ** -0.5)


def encoded(model: Any, features: torch.Tensor) -> dict[str, BaseModelOutputWithPooling]:
    """What the model takes instead of pictures, of `reader_data.pooled_patches`."""
    projector = model.model.multi_modal_projector
    projected = projector.mm_soft_emb_norm(features) @ projector.mm_input_projection_weight
    return {"image": BaseModelOutputWithPooling(pooler_output=projected.float())}


class Run:
    """The model, its average and the optimizer of a run; saved to and loaded from its folder."""

    def __init__(self, folder: Path, rate: float, seed: int, tokenizer: Path | None = None) -> None:
        """``tokenizer`` is a file to take instead of a newly trained one; it goes with the weights of a start."""
        torch.manual_seed(seed)
        self.folder, self.rate = folder, rate
        if not (folder / "start" / "trauma.json").is_file():
            write_reader(folder / "start", tokenizer_texts())
            if tokenizer is not None:
                shutil.copyfile(tokenizer, folder / "start" / "tokenizer.json")
        self.writer = Writer(folder / "start")
        self.model: Any = Gemma3ForConditionalGeneration.from_pretrained(folder / "start", dtype=torch.float32)
        self.model.model.vision_tower.requires_grad_(requires_grad=False)
        start_model(self.model)
        self.width: int = self.model.config.vision_config.hidden_size
        # drops out at the export
        self.teller = nn.Linear(self.model.config.text_config.hidden_size, len(FINDINGS))
        self.trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.average = {name: value.detach().clone() for name, value in self.trained.items()}
        self.optimizer = self._make_optimizer()
        self.progress = Progress()

    def _make_optimizer(self) -> torch.optim.AdamW:
        matrices = [p for p in self.trained.values() if p.ndim >= 2]
        vectors = [p for p in self.trained.values() if p.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": WEIGHT_DECAY},
            {"params": [*vectors, *self.teller.parameters()], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.rate, betas=(0.9, 0.98), fused=True)

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The mean loss of the written tokens, and of what the pictures show."""
        with torch.autocast("cpu", torch.bfloat16, enabled=cpu_prefers_bfloat16()):
            output = self.model.model(
                input_ids=batch.ids,
                attention_mask=batch.mask,
                token_type_ids=(batch.ids == self.writer.image_token).long(),
                mm_encoder_outputs=None if batch.features is None else encoded(self.model, batch.features),
                use_cache=False,
                output_hidden_states=True,
            )
            weights = batch.weights[:, 1:]
            asked = weights > 0
            logits = self.model.lm_head(output.last_hidden_state[:, :-1][asked]).float()
        cross = functional.cross_entropy(logits, batch.ids[:, 1:][asked], reduction="none")
        losses = {"written": (cross * weights[asked]).sum() / weights[asked].sum()}
        if batch.findings is not None:
            ends = output.hidden_states[_TOLD_AFTER][batch.ids == self.writer.end_of_image]
            told = self.teller(functional.rms_norm(ends.float(), ends.shape[-1:]))
            losses["told"] = functional.binary_cross_entropy_with_logits(told, batch.findings)
        return losses

    def step(self, batches: list[tuple[Batch, float]], done: float) -> list[float]:
        """One update on batches with their weights; ``done`` is the share of the run. Returns the written losses."""
        falling = 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min((self.progress.step + 1) / 100.0, falling)
        self.optimizer.zero_grad(set_to_none=True)
        written = []
        for batch, weight in batches:
            losses = self.losses(batch)
            torch.autograd.backward(weight * torch.stack(list(losses.values())).sum())
            written.append(losses["written"].item())
        nn.utils.clip_grad_norm_([*self.trained.values(), *self.teller.parameters()], 1.0)
        self.optimizer.step()
        share = 1.0 - min(EMA_DECAY, (1.0 + self.progress.step) / (10.0 + self.progress.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.trained.values()], share)
        return written

    def swap_average(self) -> None:
        """Exchange the weights and their average."""
        with torch.no_grad():
            for name, value in self.trained.items():
                kept = value.detach().clone()
                value.copy_(self.average[name])
                self.average[name].copy_(kept)

    @torch.inference_mode()
    def state_after(self, prompt: list[int], features: torch.Tensor | None) -> ModelState:
        """The engine's state after a prompt, for decoding as the service does it."""
        cache = DynamicCache(config=self.model.config.get_text_config())
        ids = torch.tensor([prompt])
        output = self.model(
            input_ids=ids,
            token_type_ids=(ids == self.writer.image_token).long(),
            mm_encoder_outputs=None if features is None else encoded(self.model, features),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return ModelState(self.model, cache, output.logits[0, -1])

    def save(self) -> None:
        """Write the run's state (`run_state.save_state`)."""
        tensors = (
            named("model.", self.trained) | named("average.", self.average) | named("teller.", self.teller.state_dict())
        )
        save_state(self.folder, tensors, self.optimizer, self.progress._asdict())

    def load(self) -> None:
        """Take up what `save` wrote. Raises FileNotFoundError."""
        tensors, progress = load_state(self.folder, self.optimizer)
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(tensors[f"model.{name}"])
                self.average[name].copy_(tensors[f"average.{name}"])
        self.teller.load_state_dict(under("teller.", tensors))
        self.progress = Progress(**progress)

    def start_from(self, other: Path) -> None:
        """Begin with the weights of a checkpoint, or the averaged ones of a run, whose tokenizer must be the same."""
        start = start_folder(other)
        mine, theirs = (folder / "tokenizer.json" for folder in (self.folder / "start", start))
        if mine.read_bytes() != theirs.read_bytes():
            raise ValueError(f"the tokenizer of {other} is another one; start it again")
        if start is other:
            model = Gemma3ForConditionalGeneration.from_pretrained(other, dtype=torch.float32)
            weights = dict(model.named_parameters())
        else:
            stored = load_file(other / WEIGHTS_FILE)
            weights = {name: stored[f"average.{name}"] for name in self.trained}
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(weights[name])
                self.average[name].copy_(value)

    @property
    def has_state(self) -> bool:
        """Whether the folder holds a run."""
        return (self.folder / PROGRESS_FILE).exists()

    def log(self, **values: Any) -> None:
        """Print a line and add it to log.jsonl."""
        minutes, step = round(self.progress.elapsed_s / 60.0, 2), self.progress.step
        log_line(self.folder, {"minutes": minutes, "step": step, **values})
