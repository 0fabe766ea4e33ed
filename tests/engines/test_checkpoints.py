"""Checkpoints that cannot be used say in one sentence what to do."""

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.checkpoints import without_fingerprint

from trauma_api.engines.base import CheckpointError, Role
from trauma_api.engines.checkpoints import Metadata, open_checkpoint
from trauma_api.engines.device import choose_device, choose_dtype, cpu_prefers_bfloat16
from trauma_api.engines.gemma import GemmaReader
from trauma_api.engines.siglip import SiglipTriage
from trauma_api.engines.unet import UNetSegmenter

LOAD: dict[str, Callable[[str], object]] = {
    "triage": lambda name: SiglipTriage.load(name, ("torn liver", "normal"), device="cpu"),
    "reader": lambda name: GemmaReader.load(name, device="cpu"),
    "segmenter": lambda name: UNetSegmenter.load(name, device="cpu"),
}
ROLES: tuple[Role, ...] = ("triage", "reader", "segmenter")


@pytest.fixture
def copy(untrained_checkpoints: Path, tmp_path: Path) -> Callable[[str], Path]:
    def make(role: str) -> Path:
        return Path(shutil.copytree(untrained_checkpoints / role, tmp_path / role))

    return make


def refusal(role: str, name: str) -> str:
    with pytest.raises(CheckpointError) as raised:
        LOAD[role](name)
    text = str(raised.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def write_metadata(folder: Path, **changes: Any) -> None:
    metadata = json.loads((folder / "trauma.json").read_text())
    (folder / "trauma.json").write_text(json.dumps({**metadata, **changes}))


@pytest.mark.parametrize("role", ROLES)
def test_a_missing_folder(role: str, tmp_path: Path) -> None:
    text = refusal(role, str(tmp_path / "nothing"))
    assert "nothing; name a folder or a hub id" in text
    assert "install trauma-api again" in text


@pytest.mark.parametrize("role", ROLES)
def test_a_checkpoint_of_another_role(role: str, untrained_checkpoints: Path) -> None:
    other = ROLES[ROLES.index(role) - 1]
    assert f"{other} checkpoint" in refusal(role, str(untrained_checkpoints / other))


@pytest.mark.parametrize("role", ROLES)
def test_truncated_weights(role: str, copy: Callable[[str], Path]) -> None:
    folder = copy(role)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    for told in (refusal(role, str(folder)), refusal(role, str(without_fingerprint(folder)))):
        assert "damaged" in told
        assert "install trauma-api again" in told


@pytest.mark.parametrize("role", ROLES)
def test_weights_that_are_not_those_of_the_metadata(role: str, copy: Callable[[str], Path]) -> None:
    folder = copy(role)
    weights = folder / "model.safetensors"
    whole = bytearray(weights.read_bytes())
    whole[-1] ^= 1
    weights.write_bytes(whole)
    assert "not those that its trauma.json states" in refusal(role, str(folder))
    LOAD[role](str(without_fingerprint(folder)))


@pytest.mark.parametrize("role", ROLES)
def test_no_safetensors(role: str, copy: Callable[[str], Path]) -> None:
    folder = copy(role)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "safetensors" in refusal(role, str(folder))


@pytest.mark.parametrize("change", ["drop", "add"])
@pytest.mark.parametrize("role", ROLES)
def test_weights_that_do_not_match_the_architecture(role: str, change: str, copy: Callable[[str], Path]) -> None:
    folder = without_fingerprint(copy(role))
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("weight") and "embed" not in name)
    if change == "drop":
        del tensors[name]
    else:
        tensors["surplus.weight"] = torch.zeros(1)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "architecture" in refusal(role, str(folder))


@pytest.mark.parametrize("role", ["triage", "reader"])
def test_a_config_of_another_model(role: str, copy: Callable[[str], Path]) -> None:
    folder = copy(role)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "bert", "architectures": ["BertModel"]}))
    assert "BertModel" in refusal(role, str(folder))
    (folder / "config.json").write_text("{")
    assert "config.json" in refusal(role, str(folder))


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"format_version": 2}, "format_version"),
        ({"threshold": 1.5}, "threshold"),
        ({"input": {"channels": []}}, "input.channels"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_metadata_that_is_not_valid(changes: dict[str, Any], place: str, copy: Callable[[str], Path]) -> None:
    folder = copy("segmenter")
    write_metadata(folder, **changes)
    assert place in refusal("segmenter", str(folder))


def test_a_segmenter_states_its_input(copy: Callable[[str], Path]) -> None:
    folder = copy("segmenter")
    write_metadata(folder, input=None)
    assert "input" in refusal("segmenter", str(folder))
    (folder / "trauma.json").unlink()
    assert "trauma.json" in refusal("segmenter", str(folder))


def test_a_publishers_checkpoint_has_no_metadata_of_ours(copy: Callable[[str], Path]) -> None:
    folder = copy("triage")
    (folder / "trauma.json").unlink()
    metadata = open_checkpoint(str(folder), "triage").metadata
    assert "model card" in metadata.trained_on
    assert metadata.calibration is not None
    assert (metadata.calibration.scale, metadata.calibration.offset) == (1.0, 0.0)


def test_the_hash_is_that_of_the_weight_files_in_order(copy: Callable[[str], Path]) -> None:
    folder = without_fingerprint(copy("triage"))
    weights = (folder / "model.safetensors").read_bytes()
    assert open_checkpoint(str(folder), "triage").sha256 == hashlib.sha256(weights).hexdigest()
    (folder / "a.safetensors").write_bytes(b"first")
    assert open_checkpoint(str(folder), "triage").sha256 == hashlib.sha256(b"first" + weights).hexdigest()


def test_a_hub_id_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="download it where there is a network"):
        open_checkpoint("google/medgemma-1.5-4b-it", "reader", cache_dir=tmp_path)


class Hub(BaseHTTPRequestHandler):
    """A model hub that gives nothing away."""

    def do_GET(self) -> None:
        gated = "gated" in self.path
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = HTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.usefixtures("hub")
def test_a_gated_repository(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Accept the terms of google/gated on its model page and set HF_TOKEN"):
        open_checkpoint("google/gated", "reader", cache_dir=tmp_path)


@pytest.mark.usefixtures("hub")
def test_a_repository_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="google/nothing is neither a folder here nor a repository"):
        open_checkpoint("google/nothing", "reader", cache_dir=tmp_path)


def test_metadata_survives_its_file(untrained_checkpoints: Path) -> None:
    for role in ROLES:
        text = (untrained_checkpoints / role / "trauma.json").read_text()
        metadata = Metadata.model_validate_json(text)
        assert metadata.role == role
        assert metadata.trained_on == "untrained"
        assert Metadata.model_validate_json(metadata.model_dump_json()) == metadata


def test_an_engine_says_how_many_slices_its_checkpoint_wants(untrained_checkpoints: Path) -> None:
    stated = {
        role: open_checkpoint(str(untrained_checkpoints / role), role).engine_info(torch.device("cpu"), "float32")
        for role in ROLES
    }
    assert {role: info.slice_budget for role, info in stated.items()} == {
        "triage": None,
        "reader": 12,
        "segmenter": None,
    }


@pytest.mark.parametrize(
    ("capabilities", "prefers"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False, "amx_bf16": False}, False),
        ({"architecture": "aarch64"}, False),
    ],
    ids=["amx", "intel without amx", "amd", "amd without 16 bit units", "other"],
)
def test_bfloat16_is_taken_where_it_is_faster(capabilities: dict[str, object], *, prefers: bool) -> None:
    assert cpu_prefers_bfloat16(capabilities) is prefers


def test_the_cpu_is_never_taken_for_cuda() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_dtype(torch.device("cpu")) == torch.float32
    if torch.cuda.is_available():
        assert choose_device("cuda").type == choose_device("auto").type == "cuda"
    else:
        with pytest.raises(CheckpointError, match="No CUDA device"):
            choose_device("cuda")
