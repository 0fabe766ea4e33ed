"""Writes the phantom profile's three checkpoints, untrained and seeded, as real `save_pretrained` folders.

They make the whole service run before anything is trained, and are where training starts: the tokenizers, processors
and configurations written here are kept by the trained checkpoints.
"""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma3TextConfig,
    GenerationConfig,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
    SiglipTextConfig,
    SiglipVisionConfig,
)

from phantom_corpus import corpus
from trauma_api.engines.checkpoints import (
    METADATA_FILE,
    Calibration,
    Metadata,
    SegmenterChannel,
    SegmenterInput,
    weights_sha256,
)
from trauma_api.engines.device import silence_libraries

UNTRAINED = "untrained"
VOCABULARY, READER_VOCABULARY = 1024, 2048
IMAGE_PIXELS, PATCH_PIXELS = 160, 10
READER_IMAGE_PIXELS, READER_PATCH_PIXELS = 224, 7
"""Finer than triage's: a jet fills a few millimetres, and the reader looks at a dozen slices only."""
TOKENS_PER_IMAGE = 64
STATEMENT_TOKENS = 64
READER_SLICES = 12
HALF = [0.5, 0.5, 0.5]

PAD, EOS, BOS, UNK = "<pad>", "<eos>", "<bos>", "<unk>"
START_OF_TURN, END_OF_TURN = "<start_of_turn>", "<end_of_turn>"
START_OF_IMAGE, END_OF_IMAGE, IMAGE_SOFT_TOKEN = "<start_of_image>", "<end_of_image>", "<image_soft_token>"
SPECIAL_TOKENS = [
    PAD, EOS, BOS, UNK, START_OF_TURN, END_OF_TURN, START_OF_IMAGE, END_OF_IMAGE, IMAGE_SOFT_TOKEN,
]  # fmt: skip

# Gemma's turns: the system turn opens the first user turn, the assistant is "model", texts are trimmed, not separated.
CHAT_TEMPLATE = """\
{%- macro write(content) -%}
{%- if content is string -%}{{ content | trim }}
{%- else -%}
{%- for part in content -%}
{%- if part.type == 'image' -%}{{ '<start_of_image>' }}{%- else -%}{{ part.text | trim }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{{- bos_token -}}
{%- set turns = namespace(opening='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{%- set turns.opening = write(message.content) ~ '\\n\\n' -%}
{%- else -%}
{{- '<start_of_turn>' ~ ('model' if message.role == 'assistant' else 'user') ~ '\\n' ~ turns.opening -}}
{{- write(message.content) ~ '<end_of_turn>\\n' -}}
{%- set turns.opening = '' -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""


def train_bpe(texts: Sequence[str] = (), vocabulary: int = VOCABULARY) -> Tokenizer:
    """A byte-level BPE over the domain's text and ``texts``; every digit is a token of its own."""
    bpe = Tokenizer(BPE(unk_token=UNK))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=1,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([*corpus(), *texts], trainer)
    return bpe


def write_triage(folder: Path) -> None:
    """`SiglipModel` of about 4 M parameters with its processor."""
    bpe = train_bpe()
    bpe.post_processor = processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, bpe.token_to_id(EOS))])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="right",
        model_max_length=STATEMENT_TOKENS,
        model_input_names=["input_ids"],
    )
    model = SiglipModel(triage_config(bpe))
    # the start of the SigLIP paper (arXiv 2303.15343, section 3.1)
    torch.nn.init.constant_(model.logit_scale, math.log(10.0))
    torch.nn.init.constant_(model.logit_bias, -10.0)
    model.half().save_pretrained(folder)
    SiglipProcessor(
        image_processor=image_processor(SiglipImageProcessor, IMAGE_PIXELS), tokenizer=tokenizer
    ).save_pretrained(folder)
    calibration = Calibration(scale=1.0, offset=0.0)
    write_metadata(
        folder, Metadata(role="triage", architecture="SiglipModel", trained_on=UNTRAINED, calibration=calibration)
    )


def triage_config(bpe: Tokenizer) -> SiglipConfig:
    """Two text layers are enough for a handful of statements."""
    return SiglipConfig(
        text_config=SiglipTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=192,
            intermediate_size=768,
            num_hidden_layers=2,
            num_attention_heads=3,
            max_position_embeddings=STATEMENT_TOKENS,
            # the defaults, 49406 and 49407, lie outside this vocabulary
            pad_token_id=bpe.token_to_id(PAD),
            bos_token_id=bpe.token_to_id(BOS),
            eos_token_id=bpe.token_to_id(EOS),
        ),
        vision_config=vision_config(IMAGE_PIXELS, PATCH_PIXELS, use_head=True),
    )


def vision_config(image_pixels: int, patch_pixels: int, *, use_head: bool) -> SiglipVisionConfig:
    """A tower as triage and reader have it; the reader takes the patches, not the pooled head."""
    return SiglipVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=3,
        # a fifth faster on a CPU than GELU, backwards too
        hidden_act="relu",
        image_size=image_pixels,
        patch_size=patch_pixels,
        vision_use_head=use_head,
    )


def image_processor(kind: type, pixels: int) -> object:
    """Pixels to [-1, 1] at the tower's size, as MedSigLIP and MedGemma take them."""
    size = {"height": pixels, "width": pixels}
    return kind(size=size, image_mean=HALF, image_std=HALF)


def write_reader(folder: Path, texts: Sequence[str] = ()) -> None:
    """`Gemma3ForConditionalGeneration` of about 7 M parameters with its processor and chat template.

    Its tokenizer has seen ``texts`` too.
    """
    bpe = train_bpe(texts, READER_VOCABULARY)
    bpe.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bpe.token_to_id(BOS))])
    model = Gemma3ForConditionalGeneration(reader_config(bpe))
    # zero at the start, which would hide the pictures from an untrained model and starve the tower of gradient
    projection = model.model.multi_modal_projector.mm_input_projection_weight
    torch.nn.init.normal_(projection, std=projection.shape[0] ** -0.5)
    stops = [bpe.token_to_id(EOS), bpe.token_to_id(END_OF_TURN)]
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=stops, pad_token_id=bpe.token_to_id(PAD), bos_token_id=bpe.token_to_id(BOS)
    )
    model.half().save_pretrained(folder)
    reader_processor(bpe).save_pretrained(folder)
    write_metadata(
        folder,
        Metadata(
            role="reader",
            architecture="Gemma3ForConditionalGeneration",
            trained_on=UNTRAINED,
            slice_budget=READER_SLICES,
        ),
    )


def reader_processor(bpe: Tokenizer) -> Gemma3Processor:
    """Pictures of 64 tokens each, and turns in Gemma's format."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=EOS,
        bos_token=BOS,
        unk_token=UNK,
        padding_side="left",
        extra_special_tokens={"boi_token": START_OF_IMAGE, "eoi_token": END_OF_IMAGE, "image_token": IMAGE_SOFT_TOKEN},
    )
    return Gemma3Processor(
        image_processor=image_processor(Gemma3ImageProcessor, READER_IMAGE_PIXELS),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
        image_seq_length=TOKENS_PER_IMAGE,
    )


def reader_config(bpe: Tokenizer) -> Gemma3Config:
    """Two sliding and two full attention layers; ten pictures and their text fit the 8,192 positions many times."""
    return Gemma3Config(
        text_config=Gemma3TextConfig(
            vocab_size=READER_VOCABULARY,
            hidden_size=256,
            intermediate_size=1024,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            query_pre_attn_scalar=64,
            max_position_embeddings=8192,
            sliding_window=512,
            layer_types=["sliding_attention", "full_attention"] * 2,
            pad_token_id=bpe.token_to_id(PAD),
            bos_token_id=bpe.token_to_id(BOS),
            eos_token_id=bpe.token_to_id(EOS),
        ),
        vision_config=vision_config(READER_IMAGE_PIXELS, READER_PATCH_PIXELS, use_head=False),
        mm_tokens_per_image=TOKENS_PER_IMAGE,
        boi_token_index=bpe.token_to_id(START_OF_IMAGE),
        eoi_token_index=bpe.token_to_id(END_OF_IMAGE),
        image_token_index=bpe.token_to_id(IMAGE_SOFT_TOKEN),
    )


def write_segmenter(folder: Path) -> None:
    """`smp.Unet("resnet34")`, 24 M parameters, over a narrow window, a wide one, and the neighbours' narrow one."""
    narrow, wide = (-20.0, 80.0), (-150.0, 250.0)
    seen = SegmenterInput(
        channels=(
            SegmenterChannel(window_hu=narrow, neighbours=0),
            SegmenterChannel(window_hu=wide, neighbours=0),
            SegmenterChannel(window_hu=narrow, neighbours=1),
        ),
        pixel_spacing_mm=1.5,
    )
    model = smp.Unet("resnet34", encoder_weights=None, in_channels=len(seen.channels), classes=1).half()
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors")
    write_metadata(
        folder,
        Metadata(role="segmenter", architecture="smp.Unet(resnet34)", trained_on=UNTRAINED, input=seen, threshold=0.5),
    )


def write_metadata(folder: Path, metadata: Metadata) -> None:
    """Write ``trauma.json``, with the fingerprint of the weights that lie there."""
    stated = metadata.model_copy(update={"sha256": weights_sha256(folder.name, folder)})
    (folder / METADATA_FILE).write_text(stated.model_dump_json(indent=2, exclude_none=True) + "\n")


def write_checkpoints(out: Path, seed: int = 0) -> None:
    """Write ``triage/``, ``reader/`` and ``segmenter/`` under ``out``; the same seed gives the same bytes."""
    for role, write in (("triage", write_triage), ("reader", write_reader), ("segmenter", write_segmenter)):
        torch.manual_seed(seed)
        write(out / role)
        # safetensors writes files that only their owner may read; a package's files are for everyone
        (out / role / "model.safetensors").chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    silence_libraries()
    started = time.monotonic()
    write_checkpoints(arguments.out, arguments.seed)
    for role in ("triage", "reader", "segmenter"):
        size = sum(file.stat().st_size for file in (arguments.out / role).iterdir())
        print(f"{arguments.out / role}: {size / 1e6:.1f} MB")
    print(f"{time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
