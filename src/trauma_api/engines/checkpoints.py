"""Where weights come from: a local folder or a hub id, its metadata, and its fingerprint."""

import hashlib
import json
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError

from trauma_api.engines.base import CheckpointError, EngineInfo, Role
from trauma_api.engines.device import device_memory_bytes
from trauma_api.imaging.measure import NoiseRule

METADATA_FILE = "trauma.json"
FETCH_AGAIN = "fetch it again, or install trauma-api again if it is a shipped one"
ARCHITECTURES: dict[Role, str] = {
    "triage": "SiglipModel",
    "reader": "Gemma3ForConditionalGeneration",
    "segmenter": "smp.Unet(resnet34)",
}
_MODEL_TYPES = {"triage": "siglip", "reader": "gemma3"}
# Nothing that is unpickled is ever fetched.
_FETCHED = ["*.safetensors", "*.json", "*.jinja", "*.model"]
_HASH_CHUNK_BYTES = 1 << 22
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_Loaded = TypeVar("_Loaded")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Calibration(_Strict):
    """Turns a difference of logits into a suspicion: sigmoid(scale * difference + offset)."""

    scale: float = Field(gt=0)
    offset: float


class SegmenterChannel(_Strict):
    """One input channel: the slice, or the mean of slices i - neighbours to i + neighbours, windowed to 0..1."""

    window_hu: tuple[float, float]
    neighbours: int = Field(ge=0)


class SegmenterInput(_Strict):
    """What the segmenter was trained to see; ``pixel_spacing_mm`` None keeps the study's own grid."""

    channels: tuple[SegmenterChannel, ...] = Field(min_length=1)
    pixel_spacing_mm: float | None = Field(default=None, gt=0)


class Metadata(_Strict):
    """The file ``trauma.json`` beside the weights.

    ``calibration`` belongs to triage; ``input``, ``threshold`` and ``noise`` belong to the segmenter. ``slice_budget``,
    where a reader needs another number of slices than device memory suggests, belongs to the reader. ``trained_on`` is
    "untrained" for weights at their random start. ``sha256`` is that of the weights (`weights_sha256`), and is checked;
    ``metrics`` are what the model card says was measured.
    """

    format_version: Literal[1] = 1
    role: Role
    architecture: str
    trained_on: str = Field(min_length=1)
    calibration: Calibration | None = None
    input: SegmenterInput | None = None
    threshold: float | None = Field(default=None, gt=0, lt=1)
    noise: NoiseRule | None = None
    slice_budget: int | None = Field(default=None, ge=1, le=85)
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    metrics: dict[str, float] = Field(default_factory=dict)


class Checkpoint(_Strict):
    """A checkpoint on this machine's disk: ``name`` is what the operator asked for, ``sha256`` covers its weights."""

    name: str
    folder: Path
    metadata: Metadata
    sha256: str

    def engine_info(self, place: torch.device, dtype: str, adapter: str | None = None) -> EngineInfo:
        """What an engine that runs this checkpoint on ``place`` says of itself."""
        return EngineInfo(
            role=self.metadata.role,
            checkpoint=public_name(self.name),
            architecture=self.metadata.architecture,
            sha256=self.sha256,
            trained_on=self.metadata.trained_on,
            adapter=None if adapter is None else public_name(adapter),
            device=place.type,
            dtype=dtype,
            device_memory_bytes=device_memory_bytes(place),
            slice_budget=self.metadata.slice_budget,
        )


def public_name(name: str) -> str:
    """A hub id as it is; of a folder the last two names, as results tell nothing of the machine's other folders."""
    local = Path(name).expanduser()
    return "/".join(local.resolve().parts[-2:]) if local.is_dir() else name


def open_checkpoint(name: str, role: Role, *, token: str | None = None, cache_dir: Path | None = None) -> Checkpoint:
    """Find ``name`` (a local folder or a hub id), download it where needed, and check that it is a ``role``.

    Raises CheckpointError where it is missing, gated, without safetensors, made for something else, or where its
    weights are not those that its metadata states.
    """
    folder = resolve_folder(name, token=token, cache_dir=cache_dir)
    metadata = _read_metadata(name, folder, role)
    if role in _MODEL_TYPES:
        _check_config(name, folder, role)
    sha256 = weights_sha256(name, folder)
    if metadata.sha256 not in (None, sha256):
        raise CheckpointError(f"{name} has damaged weights (not those that its {METADATA_FILE} states); {FETCH_AGAIN}.")
    return Checkpoint(name=name, folder=folder, metadata=metadata, sha256=sha256)


def resolve_folder(name: str, *, token: str | None = None, cache_dir: Path | None = None) -> Path:
    """The local folder of a local folder or hub id. Raises CheckpointError."""
    local = Path(name).expanduser()
    if local.is_dir():
        return local
    if not _HUB_ID.fullmatch(name):
        raise CheckpointError(
            f"There is no folder {name}; name a folder or a hub id, or install trauma-api again if it is a shipped one."
        )
    try:
        return Path(snapshot_download(name, allow_patterns=_FETCHED, token=token, cache_dir=cache_dir))
    except GatedRepoError as error:
        raise CheckpointError(f"Accept the terms of {name} on its model page and set HF_TOKEN.") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{name} is neither a folder here nor a repository that this HF_TOKEN may see; correct one of them."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"{name} is not a folder here and the model hub was not reached; "
            "download it where there is a network, or use the phantom profile, whose checkpoints are shipped."
        ) from error
    except (HfHubHTTPError, httpx.HTTPError, HFValidationError) as error:
        raise CheckpointError(f"The model hub did not deliver {name} ({error}); try again.") from error


def _read_metadata(name: str, folder: Path, role: Role) -> Metadata:
    file = folder / METADATA_FILE
    if not file.is_file():
        return _publishers_metadata(name, role)
    try:
        metadata = Metadata.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the file"
        raise CheckpointError(f"{file} is not valid at {place} ({first['msg']}); write it again.") from error
    if metadata.role != role or metadata.architecture != ARCHITECTURES[role]:
        raise CheckpointError(
            f"{name} is a {metadata.role} checkpoint ({metadata.architecture}); "
            f"name one of role {role} ({ARCHITECTURES[role]})."
        )
    return metadata


def _publishers_metadata(name: str, role: Role) -> Metadata:
    """The hub's checkpoints carry no metadata of ours; a U-Net's input cannot be guessed, the others state theirs."""
    if role == "segmenter":
        raise CheckpointError(
            f"{name} has no {METADATA_FILE}, which states the windows and spacing that a segmenter was trained with; "
            "add it, or name another checkpoint."
        )
    return Metadata(
        role=role,
        architecture=ARCHITECTURES[role],
        trained_on=f"as published with {name}; see its model card",
        calibration=Calibration(scale=1.0, offset=0.0) if role == "triage" else None,
    )


def _check_config(name: str, folder: Path, role: Role) -> None:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise CheckpointError(f"{name} has no readable config.json; {FETCH_AGAIN}.") from error
    wanted = ARCHITECTURES[role]
    found = config.get("architectures") or [wanted]
    if config.get("model_type") != _MODEL_TYPES[role] or wanted not in found:
        raise CheckpointError(f"{name} is a {', '.join(found)} of type {config.get('model_type')}; name a {wanted}.")


def weights_sha256(name: str, folder: Path) -> str:
    """SHA-256 of all safetensors files in the order of their names, as ``cat *.safetensors | sha256sum`` gives it."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{name} has no *.safetensors file; {FETCH_AGAIN}.")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(_HASH_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def loading(name: str, load: Callable[[], _Loaded]) -> _Loaded:
    """Run a library's loader, and say in a sentence what is wrong with ``name`` when it refuses.

    Raises CheckpointError.
    """
    try:
        return load()
    except SafetensorError as error:
        raise CheckpointError(f"{name} has damaged weights ({error}); {FETCH_AGAIN}.") from error
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise CheckpointError(
                f"{name} does not fit in the device's memory; free some, or load it in 4 bits or on the CPU."
            ) from error
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{name} does not load ({first_line}); fetch it again, or name a checkpoint of the right architecture."
        ) from error


def load_pretrained(model_class: Any, found: Checkpoint, dtype: torch.dtype, **options: Any) -> Any:
    """A transformers model from ``found``, from safetensors, with every weight in its place. Raises CheckpointError."""
    model, keys = loading(
        found.name,
        lambda: model_class.from_pretrained(
            found.folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
        ),
    )
    require_all_keys(found.name, keys)
    return model


def require_all_keys(name: str, info: dict[str, Collection[Any]]) -> None:
    """Refuse weights that leave a tensor at random or bring one nobody uses; ``info`` is transformers' loading info."""
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if keys := sorted(str(key) for key in info[kind]):
            raise CheckpointError(
                f"The weights of {name} do not match its architecture ({len(keys)} {kind.replace('_', ' ')}, "
                f"first {keys[0]}); fetch them again, or name a checkpoint of the right architecture."
            )
