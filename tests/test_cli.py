"""The command line: what it prints, and how it ends. In a process of its own where the start is part of the matter."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.support.processes import free_port, trauma_api
from tests.support.quick import quick_service
from tests.support.studies import phantom_slices, write_slices, zipped
from trauma_api.app import create_app
from trauma_api.cli import app
from trauma_api.schemas.briefings import Briefing
from trauma_api.settings import Settings

NO_TRACEBACK = "Traceback"


def invoke(*arguments: str, **env: str) -> Result:
    """Run the command in this process, where the model libraries are loaded once."""
    return CliRunner(env=env).invoke(app, arguments)


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """A running service, so that not every command loads models."""
    with quick_service() as (service, _):
        yield service.url


class TestOpenapi:
    def test_it_prints_the_document_and_nothing_else(self) -> None:
        ended = trauma_api("openapi")
        assert ended.returncode == 0
        assert json.loads(ended.stdout) == create_app(Settings()).openapi()


class TestCheck:
    def test_the_shipped_checkpoints_are_valid(self) -> None:
        ended = invoke("check")
        assert ended.exit_code == 0, ended.stderr
        for role in ("triage", "reader", "segmenter"):
            assert f"{role}: " in ended.stdout
        assert ended.stdout.endswith("Configuration and checkpoints are valid.\n")

    def test_a_missing_checkpoint_is_one_plain_sentence(self) -> None:
        ended = invoke("check", TRAUMA_TRIAGE_CHECKPOINT="/nonexistent")
        assert ended.exit_code == 1
        assert ended.stdout == ""
        (sentence,) = ended.stderr.strip().splitlines()
        assert "/nonexistent" in sentence

    def test_a_wrong_setting_is_named_and_its_value_is_not_shown(self) -> None:
        ended = invoke("check", TRAUMA_PORT="secret-value")
        assert ended.exit_code == 2
        (sentence,) = ended.stderr.strip().splitlines()
        assert "port" in sentence
        assert "secret-value" not in sentence

    def test_an_open_door_is_refused(self) -> None:
        ended = invoke("serve", "--host", "0.0.0.0")
        assert ended.exit_code == 2
        assert "TRAUMA_API_KEYS" in ended.stderr
        assert NO_TRACEBACK not in ended.stderr


class TestAnalyze:
    def test_a_folder_is_briefed_without_a_running_service(self, tmp_path: Path) -> None:
        write_slices(tmp_path / "study", 3)
        ended = trauma_api(
            "analyze", str(tmp_path / "study"), "--json", "--vitals", "hr=128,sbp=84,gcs=13",
            env={"TRAUMA_PROSE_MAX_TOKENS": "16"},
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        briefing = Briefing.model_validate_json(ended.stdout)
        assert briefing.status == "done"
        assert briefing.vitals is not None
        assert (briefing.vitals.heart_rate_bpm, briefing.vitals.systolic_mmhg, briefing.vitals.gcs) == (128, 84, 13)
        assert briefing.parts.volume is not None
        assert briefing.parts.volume.result is not None

    def test_an_archive_is_briefed_and_printed_for_people(self, tmp_path: Path, server_url: str) -> None:
        path = tmp_path / "study.zip"
        path.write_bytes(zipped(phantom_slices(3)))
        ended = invoke("analyze", str(path), "--server", server_url)
        assert ended.exit_code == 0, ended.stderr
        # The small engines: 100 voxels of 24.2 mm3.
        assert "2.4 mL" in ended.stdout
        assert "not a medical device" in " ".join(ended.stdout.replace("│", " ").split())

    @pytest.mark.parametrize(
        ("suffix", "begin"), [(".txt", b"Briefing on"), (".md", b"# Briefing"), (".pdf", b"%PDF-"), (".json", b"{")]
    )
    def test_the_report_is_written_in_the_form_that_its_name_asks_for(
        self, tmp_path: Path, server_url: str, suffix: str, begin: bytes
    ) -> None:
        write_slices(tmp_path / "study", 3)
        report = tmp_path / f"report{suffix}"
        ended = invoke("analyze", str(tmp_path / "study"), "--server", server_url, "--report", str(report))
        assert ended.exit_code == 0, ended.stderr
        assert report.read_bytes().startswith(begin)

    def test_a_report_in_another_form_is_a_misuse(self, tmp_path: Path) -> None:
        ended = invoke("analyze", str(tmp_path), "--report", str(tmp_path / "report.docx"))
        assert (ended.exit_code, ended.stderr) == (2, "--report takes a file that ends in .json, .txt, .md, .pdf.\n")

    def test_a_report_that_cannot_be_written_is_one_sentence(self, tmp_path: Path, server_url: str) -> None:
        write_slices(tmp_path / "study", 3)
        nowhere = tmp_path / "nowhere" / "report.txt"
        ended = invoke("analyze", str(tmp_path / "study"), "--server", server_url, "--report", str(nowhere))
        assert ended.exit_code == 1
        assert "The report cannot be written" in ended.stderr
        assert NO_TRACEBACK not in ended.stderr

    @pytest.mark.parametrize("content", [b"a letter to the family", b""])
    def test_a_file_that_is_no_study_is_one_sentence(self, tmp_path: Path, server_url: str, content: bytes) -> None:
        path = tmp_path / "letter.txt"
        path.write_bytes(content)
        ended = invoke("analyze", str(path), "--server", server_url)
        assert (ended.exit_code, ended.stdout) == (1, "")
        assert ended.stderr.strip().splitlines()[-1].endswith(".")
        assert NO_TRACEBACK not in ended.stderr
        assert "letter.txt" not in ended.stderr

    def test_an_empty_folder_is_one_sentence(self, tmp_path: Path, server_url: str) -> None:
        ended = invoke("analyze", str(tmp_path), "--server", server_url)
        assert ended.exit_code == 1
        assert "The folder holds no files." in ended.stderr

    def test_a_path_that_is_not_there_is_a_misuse(self, tmp_path: Path) -> None:
        ended = invoke("analyze", str(tmp_path / "nowhere"))
        assert (ended.exit_code, ended.stderr) == (2, "There is no such file or folder.\n")

    @pytest.mark.parametrize(
        "vitals", ["hr", "hr=fast", "pulse=80", "gcs=2", "sbp=80,dbp=90", "hr=80,", "=80", "hr=1=2"]
    )
    def test_vitals_that_cannot_be_read_are_a_misuse(self, tmp_path: Path, vitals: str) -> None:
        ended = invoke("analyze", str(tmp_path), "--vitals", vitals)
        assert ended.exit_code == 2
        (sentence,) = ended.stderr.strip().splitlines()
        assert sentence.startswith("--vitals is not valid")

    def test_a_server_that_is_not_there_is_one_sentence(self, tmp_path: Path) -> None:
        path = tmp_path / "0.dcm"
        path.write_bytes(phantom_slices(1)[0])
        ended = invoke("analyze", str(path), "--server", f"http://127.0.0.1:{free_port()}")
        assert ended.exit_code == 1
        assert "does not answer" in ended.stderr
        assert NO_TRACEBACK not in ended.stderr

    def test_a_server_that_asks_for_a_key_is_told_of_it(self, tmp_path: Path) -> None:
        path = tmp_path / "0.dcm"
        path.write_bytes(phantom_slices(1)[0])
        with quick_service(api_keys="the-key") as (service, _):
            refused = invoke("analyze", str(path), "--server", service.url)
            accepted = invoke("analyze", str(path), "--server", service.url, TRAUMA_API_KEYS="the-key")
        assert refused.exit_code == 1
        assert "API key" in refused.stderr
        assert accepted.exit_code == 0, accepted.stderr

    def test_what_is_no_url_is_one_sentence(self, tmp_path: Path) -> None:
        path = tmp_path / "0.dcm"
        path.write_bytes(phantom_slices(1)[0])
        ended = invoke("analyze", str(path), "--server", "not a url")
        assert ended.exit_code in {1, 2}
        assert NO_TRACEBACK not in ended.stderr
