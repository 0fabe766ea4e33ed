"""What a triage training keeps: the model, its average, the optimizer, and how far it is."""

import copy
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import AutoProcessor, SiglipModel

from run_state import PROGRESS_FILE, load_state, log_line, named, save_state, under
from trauma_api.engines.device import choose_vision_dtype
from trauma_api.settings import TRIAGE_STATEMENTS
from triage_data import FINDINGS, GROUPS
from write_untrained_checkpoints import write_triage

WEIGHT_DECAY = 0.05
SCALE_RATE = 10.0
"""The logit scale and bias learn faster by this factor; at the others' rate they hold everything back."""
EMA_DECAY = 0.998


class Heads(nn.Module):
    """The auxiliary heads: what each patch holds, and what the slice shows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patches = nn.Linear(width, GROUPS)
        self.slices = nn.Linear(width, len(FINDINGS))
        nn.init.constant_(self.patches.bias, -3.0)
        nn.init.constant_(self.slices.bias, -1.5)


class Progress(NamedTuple):
    """How far a run is; kept in state.json."""

    step: int = 0
    images: int = 0
    elapsed_s: float = 0.0


class Run:
    """The model, its average, and the optimizer of a run; saved to and loaded from its folder."""

    def __init__(self, folder: Path, rate: float, seed: int) -> None:
        torch.manual_seed(seed)
        self.folder = folder
        write_triage(folder / "start")
        self.model: Any = SiglipModel.from_pretrained(folder / "start", dtype=torch.float32)
        # the backward pass of the fused attention takes 40 % of a step on a CPU, plain matrix products far less
        self.model.set_attn_implementation("eager")
        start_model(self.model)
        self.heads = Heads(self.model.config.vision_config.hidden_size)
        self.tokens = statement_tokens(folder / "start", self.model)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        # what steps compute with: where 16 bit is faster at all, it is a sixth faster throughout than casting at each
        # operation
        seeing = nn.ModuleDict({"vision": self.model.vision_model, "heads": self.heads})
        self.swift: Any = copy.deepcopy(seeing).to(choose_vision_dtype(torch.device("cpu")))
        self._weights = list(zip(seeing.parameters(), self.swift.parameters(), strict=True))
        self.optimizer = make_optimizer(self.model, self.heads, rate)
        self.progress = Progress()

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of a loss that was computed with `swift`, for the weights in 32 bit."""
        torch.autograd.backward(loss)
        for kept, used in self._weights:
            kept.grad = None if used.grad is None else used.grad.float()
        self.swift.zero_grad(set_to_none=True)

    @torch.no_grad()
    def refresh_swift(self) -> None:
        """Take over the weights in 32 bit."""
        kept, used = zip(*self._weights, strict=True)
        torch._foreach_copy_(used, kept)

    def save(self) -> None:
        """Write the run's state (`run_state.save_state`)."""
        tensors = (
            named("model.", self.model.state_dict())
            | named("average.", self.average.state_dict())
            | named("heads.", self.heads.state_dict())
        )
        save_state(self.folder, tensors, self.optimizer, self.progress._asdict())

    def load(self) -> None:
        """Take up what `save` wrote. Raises FileNotFoundError."""
        tensors, progress = load_state(self.folder, self.optimizer)
        self.model.load_state_dict(under("model.", tensors))
        self.average.load_state_dict(under("average.", tensors))
        self.heads.load_state_dict(under("heads.", tensors))
        self.refresh_swift()
        self.progress = Progress(**progress)

    def start_from(self, checkpoint: Path) -> None:
        """Begin with the weights of an exported checkpoint; the heads that an export drops learn anew."""
        weights = {name: value.float() for name, value in load_file(checkpoint / "model.safetensors").items()}
        for model in (self.model, self.average):
            model.load_state_dict(weights)
        self.refresh_swift()

    @property
    def has_state(self) -> bool:
        """Whether the folder holds a run."""
        return (self.folder / PROGRESS_FILE).exists()

    def log(self, **values: Any) -> None:
        """Print a line and add it to log.jsonl."""
        minutes, images = round(self.progress.elapsed_s / 60.0, 2), self.progress.images
        log_line(self.folder, {"minutes": minutes, "images": images, **values})

    def update_average(self) -> None:
        """The average follows faster at the start, where the weights still move far."""
        share = 1.0 - min(EMA_DECAY, (1.0 + self.progress.step) / (10.0 + self.progress.step))
        torch._foreach_lerp_(list(self.average.parameters()), [p.detach() for p in self.model.parameters()], share)


def start_model(model: Any) -> None:
    """Positions as 2-D sine and cosine, and a bias near the share of true statements.

    SigLIP's bias of -10 is for batches where one pair in thousands belongs together.
    """
    embeddings = model.vision_model.embeddings
    side = math.isqrt(embeddings.num_positions)
    with torch.no_grad():
        embeddings.position_embedding.weight.copy_(sine_cosine(side, embeddings.embed_dim))
        model.logit_scale.fill_(math.log(10.0))
        model.logit_bias.fill_(-1.0)


def sine_cosine(side: int, width: int) -> torch.Tensor:
    """(side * side, width): a quarter each for the sine and cosine of the row, and of the column."""
    frequencies = 10000.0 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.cat([waves.repeat_interleave(side, dim=0), waves.repeat(side, 1)], dim=1)


def statement_tokens(folder: Path, model: Any) -> torch.Tensor:
    """Token ids (statements, positions), padded as the engine pads them."""
    tokenizer = AutoProcessor.from_pretrained(folder, local_files_only=True).tokenizer
    length = model.config.text_config.max_position_embeddings
    tokens: torch.Tensor = tokenizer(
        list(TRIAGE_STATEMENTS.values()),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    )["input_ids"]
    return tokens


def make_optimizer(model: Any, heads: Heads, rate: float) -> torch.optim.AdamW:
    """AdamW; matrices decay, the rest does not, and the logits' scale and bias learn at a rate of their own."""
    logits = [model.logit_scale, model.logit_bias]
    others = [p for name, p in model.named_parameters() if not name.startswith("logit_")] + list(heads.parameters())
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": WEIGHT_DECAY, "factor": 1.0},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0, "factor": 1.0},
        {"params": logits, "weight_decay": 0.0, "factor": SCALE_RATE},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def see(vision: Any, pixels: torch.Tensor, kept: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states (slices, patches, width) and pooled (slices, width) of pictures of 0..255."""
    states = vision.embeddings((pixels / 127.5 - 1.0).to(vision.post_layernorm.weight.dtype))
    if kept is not None:
        states = states.gather(1, kept[:, :, None].expand(-1, -1, states.shape[2]))
    states = vision.post_layernorm(vision.encoder(inputs_embeds=states).last_hidden_state)
    return states, vision.head(states)


def embed_statements(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Normalised float32 (statements, width)."""
    pooled: torch.Tensor = model.text_model(input_ids=tokens).pooler_output
    return functional.normalize(pooled.float(), dim=-1)


def compare(model: Any, pooled: torch.Tensor, statements: torch.Tensor) -> torch.Tensor:
    """Logits (slices, statements)."""
    cosines = functional.normalize(pooled.float(), dim=-1) @ statements.T
    logits: torch.Tensor = cosines * model.logit_scale.exp() + model.logit_bias
    return logits
