"""Loading Gemma 3: weights as they are or in 4 bits, its processor, and a LoRA adapter."""

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from transformers import AutoProcessor, BitsAndBytesConfig, Gemma3ForConditionalGeneration

from trauma_api.engines.base import CheckpointError
from trauma_api.engines.checkpoints import FETCH_AGAIN, Checkpoint, load_pretrained, loading, resolve_folder
from trauma_api.engines.device import choose_dtype

Quantization = Literal["none", "nf4"]
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
# Whole paths, as a bare "vision_tower" matches no module inside it. The list replaces transformers' own, so the head
# stands in it too; tower and projector stay as they are because the pictures' features suffer most from 4 bits.
_NOT_QUANTIZED = ["lm_head", "model.vision_tower", "model.multi_modal_projector"]


def load_processor(found: Checkpoint) -> Any:
    """Tokenizer, chat template and image processor. Raises CheckpointError."""
    processor = loading(found.name, lambda: AutoProcessor.from_pretrained(found.folder, local_files_only=True))
    if not getattr(processor, "chat_template", None):
        raise CheckpointError(f"{found.name} has no chat template; {FETCH_AGAIN}.")
    return processor


def load_model(found: Checkpoint, place: torch.device, quantization: Quantization) -> Any:
    """The model on its device, ready to infer. Raises CheckpointError."""
    options: dict[str, Any] = {}
    if quantization == "nf4":
        options = {"quantization_config": _nf4(place), "device_map": {"": str(place)}}
    model = load_pretrained(Gemma3ForConditionalGeneration, found, choose_dtype(place), **options)
    if quantization == "none":
        model = loading(found.name, lambda: model.to(place))
    elif place.type == "cuda" and choose_dtype(place) == torch.float32:
        _force_half_matmuls(model)
    return model.eval()


def _nf4(place: torch.device) -> BitsAndBytesConfig:
    if find_spec("bitsandbytes") is None or find_spec("accelerate") is None:
        raise CheckpointError("Loading in 4 bits needs bitsandbytes; run `pip install 'trauma-api[nf4]'`.")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=choose_dtype(place),
        llm_int8_skip_modules=_NOT_QUANTIZED,
    )


def _force_half_matmuls(model: Any) -> None:
    """Before compute capability 8.0 only float16 has tensor cores; the residual stream stays float32, as Gemma needs.

    bitsandbytes would otherwise take the input's dtype at the first call, whatever the configuration says.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype = torch.float16
            module.compute_type_is_set = True


def attach_adapter(model: Any, name: str, *, token: str | None, cache_dir: Path | None) -> Any:
    """Put the LoRA adapter ``name`` (a folder or a hub id) into ``model``, in place, and return PEFT's handle on it.

    Raises CheckpointError where it is no LoRA adapter or does not fit the model in full.
    """
    # Imported here: PEFT brings bitsandbytes and half of the compiler of torch along, seconds at each start.
    from peft import PeftModel, get_peft_model_state_dict

    folder = resolve_folder(name, token=token, cache_dir=cache_dir)
    _check_adapter_files(name, folder)
    with warnings.catch_warnings():
        # PEFT only warns, and leaves the tensors it did not find at their random start
        warnings.filterwarnings("error", message="Found missing adapter keys")
        # PEFT 0.21 asks transformers 5 for an attribute by its old name
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        try:
            adapted = loading(
                name,
                lambda: PeftModel.from_pretrained(model, folder, is_trainable=False, torch_device=str(model.device)),
            )
        except UserWarning as error:
            raise CheckpointError(_unfit(name)) from error
    with safe_open(folder / _ADAPTER_WEIGHTS, framework="pt") as file:
        in_file = len(file.keys())
    if in_file != len(get_peft_model_state_dict(adapted)):
        raise CheckpointError(_unfit(name))
    return adapted.eval()


def _check_adapter_files(name: str, folder: Path) -> None:
    try:
        config = json.loads((folder / "adapter_config.json").read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise CheckpointError(
            f"{name} has no readable adapter_config.json; name a LoRA adapter's folder or id."
        ) from error
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"{name} is a {config.get('peft_type')} adapter; name a LORA one.")
    if not (folder / _ADAPTER_WEIGHTS).is_file():
        raise CheckpointError(f"{name} has no {_ADAPTER_WEIGHTS}; save the adapter as safetensors.")


def _unfit(name: str) -> str:
    return f"The adapter {name} does not fit the reader's layers; name one that was trained on this checkpoint."
