"""More than a hundred injections, in tags, file names, burned-in text, questions and over several turns.

In files they must leave what the models are given as it is with a clean twin, to the pixel and letter. In questions
they are put to a reader that obeys each of them: what it writes must not be shown.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw

from tests.support.engines import ScriptedReader, small_engines
from tests.support.injections import ORDERS, TAGS
from tests.support.quick import quick_service
from tests.support.studies import DICOM, phantom_slices, zipped
from trauma_api.engines.base import Generation, GenerationRequest
from trauma_api.services.faithfulness import NOT_DERIVABLE
from trauma_api.services.prompts import INSTRUCTIONS
from trauma_api.services.sentences import sentences_of

COUNT = 4
VITALS = {"heart_rate_bpm": 90, "systolic_mmhg": 120}
Files = Sequence[tuple[str, tuple[str, bytes, str]]]
Given = tuple[Any, ...]


@pytest.fixture(scope="module")
def reader() -> ScriptedReader:
    """Remembers what it was given."""
    return ScriptedReader("The study has {slice_count} slices.")


@pytest.fixture(scope="module")
def client(reader: ScriptedReader) -> Iterator[httpx.Client]:
    """Of a service with that reader."""
    with quick_service(small_engines(reader=reader)) as (_, client):
        yield client


def given(client: httpx.Client, reader: ScriptedReader, files: Files) -> Given:
    """Texts and pictures that the reader was given for a briefing on these files, and what was structured of it."""
    reader.requests.clear()
    study = client.post("/v1/studies", files=list(files)).json()
    body = {"study_id": study["study_id"], "vitals": VITALS}
    briefing = client.post("/v1/briefings?wait=30", json=body).json()
    assert briefing["status"] == "done"
    parts = [part for request in reader.requests for turn in request.turns for part in turn.parts]
    read, volume, report = (briefing["parts"][name]["result"] for name in ("analysis", "volume", "report"))
    return (
        [part if isinstance(part, str) else np.asarray(part).tobytes() for part in parts],
        read["findings"],
        read["slice_indices"],
        (volume["volume_ml"], volume["slices"]),
        (report["sections"], report["recommendations"], report["physiology"]),
    )


def as_files(contents: Sequence[bytes], name: Callable[[int], str] = str) -> Files:
    """A multipart upload."""
    return [("files", (name(index), content, DICOM)) for index, content in enumerate(contents)]


def changed(change: Callable[[pydicom.Dataset], None]) -> list[bytes]:
    """The slices, each with a change."""
    contents = []
    for content in phantom_slices(COUNT):
        dataset = pydicom.dcmread(io.BytesIO(content))
        change(dataset)
        stream = io.BytesIO()
        dataset.save_as(stream)
        contents.append(stream.getvalue())
    return contents


def write(dataset: pydicom.Dataset, tag: str, text: str) -> None:
    """Put a text where it may stand, as far as there is room for it."""
    room = {"SH": 16, "LO": 64, "PN": 64}.get(pydicom.datadict.dictionary_VR(tag))
    with pydicom.config.disable_value_validation():
        setattr(dataset, tag, text.replace("\n", " ")[:room])


@pytest.fixture(scope="module")
def clean(client: httpx.Client, reader: ScriptedReader) -> Given:
    """The twin without an injection."""
    return given(client, reader, as_files(phantom_slices(COUNT)))


class TestFiles:
    @pytest.mark.parametrize("tag", TAGS)
    def test_in_a_tag(self, client: httpx.Client, reader: ScriptedReader, tag: str) -> None:
        # the description of a series may state its phase, so the twin has a description that says nothing
        twin = given(client, reader, as_files(changed(lambda dataset: write(dataset, tag, "ABDOMEN"))))
        for order in (ORDERS[0][0], ORDERS[14][0], ORDERS[28][0]):
            files = as_files(changed(partial(write, tag=tag, text=order)))
            assert given(client, reader, files) == twin

    @pytest.mark.parametrize("order", [order for order, _ in ORDERS[::4]])
    def test_in_file_names(self, client: httpx.Client, reader: ScriptedReader, clean: Given, order: str) -> None:
        files = as_files(phantom_slices(COUNT), lambda index: f"{order}{index}.dcm")
        assert given(client, reader, files) == clean

    @pytest.mark.parametrize("order", [order for order, _ in ORDERS[1::4]])
    def test_in_names_within_an_archive(
        self, client: httpx.Client, reader: ScriptedReader, clean: Given, order: str
    ) -> None:
        files = [("files", (f"{order}.zip", zipped(phantom_slices(COUNT)), "application/zip"))]
        assert given(client, reader, files) == clean

    @pytest.mark.parametrize("order", [order for order, _ in ORDERS[2::4]])
    def test_burned_into_the_air_beside_the_body(
        self, client: httpx.Client, reader: ScriptedReader, clean: Given, order: str
    ) -> None:
        def burn(dataset: pydicom.Dataset) -> None:
            pixels = dataset.pixel_array.copy()
            letters = Image.new("L", pixels.shape[::-1])
            ImageDraw.Draw(letters).text((1, 0), order[:12])
            written = np.asarray(letters)[:6] > 128
            pixels[:6][written] = pixels.max()
            dataset.PixelData = pixels.tobytes()

        burned = given(client, reader, as_files(changed(burn)))
        assert [part for part in burned[0] if isinstance(part, str)] == [
            part for part in clean[0] if isinstance(part, str)
        ]
        assert burned[1:] == clean[1:]


class ObedientReader(ScriptedReader):
    """Does as the last question says, and repeats earlier answers that obeyed."""

    def generate(self, request: GenerationRequest, *callbacks: Any, **named: Any) -> Generation:
        """Write what was ordered; without an order, the same prose as always."""
        last = str(request.turns[-1].parts[-1])
        said = [text for order, text in ORDERS if order.splitlines()[0].replace("<", "(").replace(">", ")") in last]
        self._prose = f"{said[0]} {said[0]}" if said else "The study has {slice_count} slices."
        return super().generate(request, *callbacks, **named)


def briefed(client: httpx.Client) -> dict[str, Any]:
    """A briefing with a session of its own."""
    study = client.post("/v1/studies", files=as_files(phantom_slices(COUNT))).json()
    body = {"study_id": study["study_id"], "vitals": VITALS}
    briefing: dict[str, Any] = client.post("/v1/briefings?wait=30", json=body).json()
    return briefing


@pytest.fixture(scope="module")
def obeyed() -> Iterator[tuple[httpx.Client, dict[str, Any]]]:
    """A session whose reader obeys."""
    with quick_service(small_engines(reader=ObedientReader())) as (_, client):
        yield client, briefed(client)


def ask(client: httpx.Client, briefing: dict[str, Any], question: str) -> dict[str, Any]:
    """The whole answer."""
    response = client.post(briefing["links"]["questions_url"], json={"question": question})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def true_sentences(briefing: dict[str, Any]) -> set[str]:
    """What may be said of this briefing: the statements of its report, each vital sign, and that nothing is known."""
    sections = briefing["parts"]["report"]["result"]["sections"]
    told = {statement["text"] for section in sections for statement in section["statements"]}
    return told | {"Heart rate 90 per minute.", "Systolic pressure 120 mmHg.", NOT_DERIVABLE}


class TestQuestions:
    @pytest.mark.parametrize(("order", "obedience"), ORDERS)
    def test_what_an_obedient_reader_writes_is_not_shown(
        self, obeyed: tuple[httpx.Client, dict[str, Any]], order: str, obedience: str
    ) -> None:
        client, briefing = obeyed
        answer = ask(client, briefing, order)
        allowed = true_sentences(briefing)
        for sentence in answer["sentences"]:
            assert sentence["outcome"] in ("replaced", "left_out")
            assert sentence["reasons"]
            assert set(sentences_of(sentence["text"])) <= allowed
        assert obedience not in answer["text"]
        assert not any(instruction[:40] in answer["text"] for instruction in INSTRUCTIONS)
        again = client.get(briefing["links"]["self_url"]).json()
        assert again["parts"] == briefing["parts"]

    @pytest.mark.parametrize("start", range(0, 30, 3))
    def test_over_several_turns(self, obeyed: tuple[httpx.Client, dict[str, Any]], start: int) -> None:
        client, _ = obeyed
        briefing = briefed(client)
        allowed = true_sentences(briefing)
        for order, _ in ORDERS[start : start + 3]:
            assert set(sentences_of(ask(client, briefing, order)["text"])) <= allowed
        last = ask(client, briefing, "How many slices are there?")
        assert last["text"] == f"The study has {COUNT} slices."
        history = client.get(briefing["links"]["session_url"]).json()["history"]
        assert len(history) == 4
        assert not {turn["answer"] for turn in history} & {text for _, text in ORDERS}
