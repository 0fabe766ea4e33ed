"""Settings: no open door, and no value that the service could not work with."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from trauma_api.imaging.study import ReadLimits
from trauma_api.services.read_limits import read_limits
from trauma_api.settings import TRIAGE_STATEMENTS, Settings


class TestHost:
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
    def test_loopback_needs_no_key(self, host: str) -> None:
        assert Settings(host=host).api_key_list == ()

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "hospital.example", ""])
    def test_any_other_address_needs_one(self, host: str) -> None:
        with pytest.raises(ValidationError, match="TRAUMA_API_KEYS"):
            Settings(host=host)
        assert Settings(host=host, api_keys="a-key").host == host

    @pytest.mark.parametrize("keys", ["", ",", " , "])
    def test_empty_keys_are_none(self, keys: str) -> None:
        with pytest.raises(ValidationError, match="TRAUMA_API_KEYS"):
            Settings(host="0.0.0.0", api_keys=keys)

    def test_keys_are_split_and_never_shown(self) -> None:
        settings = Settings(api_keys=" one ,two,")
        assert settings.api_key_list == ("one", "two")
        assert "two" not in repr(settings)


class TestEnvironment:
    def test_variables_with_the_prefix_are_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRAUMA_GATE_PERMITS", "5")
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setenv("LORA_ADAPTER", "some/adapter")
        settings = Settings()
        assert (settings.gate_permits, settings.lora_adapter) == (5, "some/adapter")
        assert settings.hf_token is not None
        assert settings.hf_token.get_secret_value() == "hf_secret"
        assert "hf_secret" not in repr(settings)

    def test_a_secret_that_is_not_valid_is_not_quoted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRAUMA_API_KEYS", "very-secret")
        monkeypatch.setenv("TRAUMA_PORT", "99999")
        with pytest.raises(ValidationError) as refused:
            Settings()
        assert "very-secret" not in str(refused.value)


class TestCheckpoints:
    def test_the_phantom_profile_is_in_the_package(self) -> None:
        settings = Settings()
        for source in (settings.triage_source, settings.reader_source, settings.segmenter_source):
            assert Path(source).is_dir()

    def test_the_medgemma_profile_names_the_hub(self) -> None:
        settings = Settings(profile="medgemma")
        assert settings.triage_source == "google/medsiglip-448"
        assert settings.reader_source == "google/medgemma-1.5-4b-it"

    def test_a_checkpoint_of_ones_own_goes_first(self) -> None:
        assert Settings(profile="medgemma", reader_checkpoint="/models/reader").reader_source == "/models/reader"


class TestTriageStatements:
    def test_their_order_does_not_depend_on_how_they_are_written(self) -> None:
        turned = dict(reversed(TRIAGE_STATEMENTS.items()))
        assert list(Settings(triage_statements=turned).triage_statements) == list(TRIAGE_STATEMENTS)

    def test_all_are_needed(self) -> None:
        some = {name: text for name, text in TRIAGE_STATEMENTS.items() if name != "normal_abdomen"}
        with pytest.raises(ValidationError, match="normal_abdomen"):
            Settings(triage_statements=some)


class TestReadLimits:
    def test_those_that_are_shipped_are_those_of_the_reader(self) -> None:
        assert read_limits(Settings()) == ReadLimits()

    @pytest.mark.parametrize("name", [field.name for field in fields(ReadLimits) if field.name != "ratio_free_bytes"])
    def test_each_can_be_set(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        changed = getattr(ReadLimits(), name) - 1
        setting = "max_upload_files" if name == "max_files" else name
        monkeypatch.setenv(f"TRAUMA_{setting.upper()}", str(changed))
        assert read_limits(Settings()) == replace(ReadLimits(), **{name: changed})

    def test_sides_that_no_image_could_have_are_refused(self) -> None:
        with pytest.raises(ValidationError, match="TRAUMA_MIN_SIDE"):
            Settings(min_side=600, max_side=512)
