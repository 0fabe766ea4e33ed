"""Checkpoints of real shapes with random weights, as `save_pretrained` folders that the engines load.

What a forward pass takes does not depend on what the weights hold. Weights are drawn in bfloat16, so that both sides
start from the same numbers whatever precision they compute in. Tokenizers are those of the shipped checkpoints.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoProcessor,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma3TextConfig,
    GenerationConfig,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
    SiglipTextConfig,
    SiglipVisionConfig,
)

from trauma_api.engines.checkpoints import METADATA_FILE, Calibration, Metadata
from trauma_api.engines.device import silence_libraries
from trauma_api.settings import PACKAGED_CHECKPOINTS

IMAGE_PIXELS = 448
TOKENS_PER_IMAGE = 196
"""28 x 28 patches averaged two by two: of what they can be pooled to, the number nearest to Gemma 3's own 256."""
_SEED = 0
_UNTRAINED = "untrained"
_SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}


@dataclass(frozen=True)
class _ReaderShape:
    """Sizes of a Gemma 3 with its tower. ``vocabulary`` None is the shipped tokenizer's."""

    text: Mapping[str, int]
    vision: Mapping[str, int]
    tokens_per_image: int
    vocabulary: int | None = None


_SMALL_GEMMA = _ReaderShape(
    text={
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 18,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "max_position_embeddings": 32_768,
        "sliding_window": 512,
    },
    vision={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": IMAGE_PIXELS,
        "patch_size": 16,
    },
    tokens_per_image=TOKENS_PER_IMAGE,
)
# Gemma 3 4B, as its technical report gives it: https://arxiv.org/abs/2503.19786
_MEDGEMMA = _ReaderShape(
    text={
        "hidden_size": 2560,
        "intermediate_size": 10_240,
        "num_hidden_layers": 34,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 131_072,
        "sliding_window": 1024,
    },
    vision={**_SO400M, "image_size": 896, "patch_size": 14},
    tokens_per_image=256,
    vocabulary=262_208,
)


def write_medsiglip_shape(folder: Path) -> None:
    """The shape of MedSigLIP-448: SigLIP so400m with patches of 14 pixels."""
    silence_libraries()
    tokenizer = AutoProcessor.from_pretrained(PACKAGED_CHECKPOINTS / "triage", local_files_only=True).tokenizer
    config = SiglipConfig(
        text_config=SiglipTextConfig(
            **_SO400M, vocab_size=32_000, max_position_embeddings=64, **_special_tokens(tokenizer)
        ),
        vision_config=SiglipVisionConfig(**_SO400M, image_size=IMAGE_PIXELS, patch_size=14),
    )
    _random(SiglipModel, config).save_pretrained(folder)
    SiglipProcessor(image_processor=_images(SiglipImageProcessor, IMAGE_PIXELS), tokenizer=tokenizer).save_pretrained(
        folder
    )
    calibration = Calibration(scale=1.0, offset=0.0)
    _write_metadata(
        folder, Metadata(role="triage", architecture="SiglipModel", trained_on=_UNTRAINED, calibration=calibration)
    )


def write_gemma_shape(folder: Path) -> None:
    """The text shape of Gemma 3 270M, with a SigLIP base tower at 448 pixels.

    The vocabulary is that of the shipped reader's tokenizer, 2,048 tokens, and not Gemma's 262,144. Of a prompt only
    the last position is put through it, so the prompt's length counts for hardly more than it would.
    """
    _write_reader(folder, _SMALL_GEMMA)


def write_medgemma_shape(folder: Path) -> None:
    """The shape of MedGemma 1.5 4B: that of Gemma 3 4B, with SigLIP so400m at 896 pixels, and Gemma's vocabulary.

    Tokens beyond the shipped tokenizer's 2,048 stand for no text, so that no grammar lets them be written.
    """
    _write_reader(folder, _MEDGEMMA)


def _write_reader(folder: Path, shape: _ReaderShape) -> None:
    silence_libraries()
    shipped = AutoProcessor.from_pretrained(PACKAGED_CHECKPOINTS / "reader", local_files_only=True)
    tokenizer = shipped.tokenizer
    config = _gemma_config(tokenizer, shape)
    model = _random(Gemma3ForConditionalGeneration, config)
    model.generation_config = GenerationConfig.from_pretrained(PACKAGED_CHECKPOINTS / "reader", local_files_only=True)
    model.save_pretrained(folder)
    Gemma3Processor(
        image_processor=_images(Gemma3ImageProcessor, config.vision_config.image_size),
        tokenizer=tokenizer,
        chat_template=shipped.chat_template,
        image_seq_length=config.mm_tokens_per_image,
    ).save_pretrained(folder)
    _write_metadata(
        folder, Metadata(role="reader", architecture="Gemma3ForConditionalGeneration", trained_on=_UNTRAINED)
    )


def _gemma_config(tokenizer: Any, shape: _ReaderShape) -> Gemma3Config:
    return Gemma3Config(
        text_config=Gemma3TextConfig(
            vocab_size=shape.vocabulary or len(tokenizer),
            head_dim=256,
            query_pre_attn_scalar=256,
            **shape.text,
            **_special_tokens(tokenizer),
        ),
        vision_config=SiglipVisionConfig(vision_use_head=False, **shape.vision),
        mm_tokens_per_image=shape.tokens_per_image,
        boi_token_index=tokenizer.convert_tokens_to_ids(tokenizer.boi_token),
        eoi_token_index=tokenizer.convert_tokens_to_ids(tokenizer.eoi_token),
        image_token_index=tokenizer.convert_tokens_to_ids(tokenizer.image_token),
    )


def _special_tokens(tokenizer: Any) -> dict[str, int]:
    beginning = tokenizer.bos_token_id
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.eos_token_id if beginning is None else beginning,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _images(kind: Any, side: int) -> Any:
    half = [0.5, 0.5, 0.5]
    return kind(size={"height": side, "width": side}, image_mean=half, image_std=half)


def _random(model_class: Any, config: Any) -> Any:
    """A model whose layers keep the variance of what goes through them, so that pictures still differ at its end.

    Made without storage first, because building it would draw all of its numbers twice before they are drawn here.
    """
    with torch.device("meta"):
        model = model_class(config)
    model.to(torch.bfloat16).to_empty(device="cpu")
    model.tie_weights()
    draw = torch.Generator().manual_seed(_SEED)
    for weight in model.parameters():
        if weight.dim() > 1:
            fan_in = weight.numel() / len(weight)
            torch.nn.init.normal_(weight, std=fan_in**-0.5, generator=draw)
        else:
            torch.nn.init.zeros_(weight)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.reset_parameters()
    return model


def _write_metadata(folder: Path, metadata: Metadata) -> None:
    (folder / METADATA_FILE).write_text(metadata.model_dump_json(indent=2, exclude_none=True) + "\n")
