"""Bodies on their way to the spool, over a real socket: taken whole, counted, timed, and gone afterwards.

What is in the files does not matter here: the operation behind the spool tells what arrived.
"""

import hashlib
import random
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from structlog.testing import capture_logs

from tests.support.quick import quick_service
from trauma_api.error_handlers import install_error_handlers
from trauma_api.middleware import BodyLimitMiddleware, RequestIdMiddleware
from trauma_api.settings import MIB, Settings
from trauma_api.uploads import SpooledUploadDep

URL = "/v1/studies"
BOUNDARY = b"a-boundary"
RELATED = 'multipart/related; type="application/dicom"; boundary=a-boundary'
FORM = "multipart/form-data; boundary=a-boundary"
NAME = "DOE^JANE 1970.dcm"


@dataclass(frozen=True)
class Spooling:
    """A service that only spools."""

    client: httpx.Client
    port: int
    root: Path

    def post(self, body: bytes | Iterator[bytes], content_type: str, url: str = URL) -> httpx.Response:
        """Send a body."""
        return self.client.post(url, content=body, headers={"Content-Type": content_type})

    def bytes_spooled(self) -> int:
        """What lies in the spool now."""
        total = 0
        with suppress(FileNotFoundError):  # removed meanwhile
            for path in self.root.glob("*/*"):
                total += path.stat().st_size
        return total

    def wait_until_empty(self) -> None:
        """Wait for the request that was given up to clean up."""
        deadline = time.monotonic() + 5
        while any(self.root.iterdir()):
            assert time.monotonic() < deadline, "the spool was not emptied"
            time.sleep(0.01)

    def connect(self, *head: str) -> socket.socket:
        """A connection on which the head of an upload was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        lines = (f"POST {URL} HTTP/1.1", "Host: localhost", *head, "", "")
        connection.sendall("\r\n".join(lines).encode())
        return connection


def _app(root: Path, settings: Settings) -> FastAPI:
    app = FastAPI()
    storage = SimpleNamespace(spool_root=root)
    app.state.container = SimpleNamespace(settings=settings, studies=SimpleNamespace(storage=storage))
    app.add_middleware(
        BodyLimitMiddleware, max_json_bytes=settings.max_json_bytes, max_upload_bytes=settings.max_upload_bytes
    )
    app.add_middleware(RequestIdMiddleware)
    install_error_handlers(app)

    @app.post(URL)
    def tell(upload: SpooledUploadDep) -> dict[str, Any]:
        contents = [file.path.read_bytes() for file in upload.files]
        return {
            "positions": [file.position for file in upload.files],
            "sizes": [len(content) for content in contents],
            "sha256": [hashlib.sha256(content).hexdigest() for content in contents],
            "names": sorted(path.name for path in upload.folder.iterdir()),
            "modes": sorted({stat.S_IMODE(path.stat().st_mode) for path in upload.folder.iterdir()}),
            "spacing_zyx_mm": upload.stated.spacing_zyx_mm,
            "window_hu": upload.stated.window_hu,
            "series": upload.stated.series,
        }

    return app


@contextmanager
def spooling(root: Path, **settings: Any) -> Iterator[Spooling]:
    """Serve it on a free port."""
    root.mkdir(exist_ok=True)
    app = _app(root, Settings(**{"disk_reserve_bytes": 0, **settings}))
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_config=None, timeout_keep_alive=60, timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield Spooling(client, port, root)
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spooling]:
    """Limits as they are shipped, but few files."""
    with spooling(tmp_path_factory.mktemp("spool"), max_upload_files=5) as running:
        yield running


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spooling]:
    """A service that takes 1 MiB."""
    with spooling(tmp_path_factory.mktemp("small"), max_upload_bytes=MIB) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spooling]:
    """A service that waits for half a second, in which 512 bytes have to arrive."""
    with spooling(tmp_path_factory.mktemp("impatient"), upload_idle_s=0.5) as running:
        yield running


def answer_on(connection: socket.socket) -> bytes:
    """A whole answer: head and problem may come apart."""
    answer = b""
    while not answer.endswith(b"}"):
        received = connection.recv(65536)
        assert received, answer
        answer += received
    return answer


def part(content: bytes, *headers: str) -> bytes:
    """One part of a multipart body."""
    return (
        b"--" + BOUNDARY + b"\r\n" + "".join(f"{line}\r\n" for line in headers).encode() + b"\r\n" + content + b"\r\n"
    )


def file_part(content: bytes, name: str = NAME) -> bytes:
    """A file of a form."""
    return part(content, f'Content-Disposition: form-data; name="files"; filename="{name}"', "Content-Type: x/y")


def field_part(name: str, value: bytes) -> bytes:
    """A text field of a form."""
    return part(value, f'Content-Disposition: form-data; name="{name}"')


def closed(*parts: bytes) -> bytes:
    """A whole multipart body."""
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem in a refusal."""
    assert (response.status_code, response.json().get("code")) == (status, code), response.text
    problem: dict[str, Any] = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert "DOE" not in response.text
    return problem


def awkward_contents() -> list[bytes]:
    """Files that nearly hold the boundary, at and around the sizes at which batches are handed over."""
    noise = random.Random(5)  # noqa: S311
    near = b"\r\n--a-boundar" + b"\r\n-" + b"\r" + b"--a-boundary" + b"\r\n--a-boundaries" + b"\n--a-boundary--"
    return [b"", near, noise.randbytes(262_143) + b"\r", near * 9_000, noise.randbytes(700_001) + b"\r\n"]


class TestForm:
    @pytest.mark.parametrize("chunk_bytes", [7, 4_099, 65_536, 10**7])
    def test_files_arrive_to_the_byte_however_the_body_is_cut(self, service: Spooling, chunk_bytes: int) -> None:
        contents = awkward_contents()[: 2 if chunk_bytes == 7 else None]
        body = closed(*(file_part(content) for content in contents))
        chunks = (body[start : start + chunk_bytes] for start in range(0, len(body), chunk_bytes))
        answer = service.post(chunks, FORM).json()
        assert answer["sha256"] == [hashlib.sha256(content).hexdigest() for content in contents]
        assert answer["positions"] == list(range(len(contents)))

    def test_they_are_private_and_not_named_as_the_client_names_them(self, service: Spooling) -> None:
        answer = service.post(closed(file_part(b"x"), file_part(b"y", "../../evil")), FORM).json()
        assert answer["names"] == ["0", "1"]
        assert answer["modes"] == [0o600]

    def test_the_spool_is_empty_when_the_answer_is_there(self, service: Spooling) -> None:
        assert service.post(closed(file_part(bytes(MIB))), FORM).status_code == 200
        assert list(service.root.iterdir()) == []

    def test_fields_are_read_wherever_they_stand(self, service: Spooling) -> None:
        body = closed(
            field_part("spacing_mm", b"5,0.8,0.7"),
            file_part(b"x"),
            field_part("series", b"1.2.840.113"),
            field_part("window_hu", b"-150,250"),
            field_part("nobody-knows", bytes(5_000)),
            part(b"another file", 'Content-Disposition: form-data; name="other"; filename="x"'),
        )
        answer = service.post(body, FORM).json()
        assert (answer["spacing_zyx_mm"], answer["window_hu"]) == ([5, 0.8, 0.7], [-150, 250])
        assert (answer["series"], answer["sizes"]) == ("1.2.840.113", [1])

    def test_what_follows_the_closing_boundary_is_ignored(self, service: Spooling) -> None:
        assert service.post(closed(file_part(b"x")) + b"an epilogue", FORM).json()["sizes"] == [1]

    def test_as_many_files_as_allowed_are_taken_and_no_more(self, service: Spooling) -> None:
        files = [file_part(b"x")] * 5
        assert service.post(closed(*files), FORM).json()["sizes"] == [1] * 5
        refused(service.post(closed(*files, file_part(b"x")), FORM), 413, "too-many-files")

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("multipart/form-data", closed(file_part(b"x"))),
            (f"multipart/form-data; boundary={'b' * 71}", b"--" + b"b" * 71 + b"--\r\n"),
            (FORM, b""),
            (FORM, b"a preamble that is none"),
            (FORM, file_part(b"no closing boundary")),
            (FORM, closed(file_part(b"x"))[:-5]),
            (FORM, closed(file_part(b"x"), *(field_part(f"f{number}", b"") for number in range(11)))),
            (FORM, closed(part(b"x", "Content-Disposition: form-data; name=" + "n" * 8_200))),
            (FORM, closed(part(b"x", *(f"A{number}: {'v' * 2_000}" for number in range(5))))),
            (FORM, closed(part(b"x", *(f"A{number}: v" for number in range(10_000))))),
            (FORM, closed(file_part(b"x"), field_part("spacing_mm", b"1," * 600))),
            (FORM, closed(file_part(b"x"), field_part("series", b"1.2"), field_part("series", b"1.3"))),
            (FORM, closed(file_part(b"x"), field_part("series", b"\xff\xfe"))),
            (FORM, closed(file_part(b"x"), field_part("series", b"not-a-uid"))),
            (FORM, closed(file_part(b"x"), field_part("series", b"1" * 65))),
        ],
    )
    def test_what_is_malformed_is_refused_and_leaves_nothing(
        self, service: Spooling, content_type: str, body: bytes
    ) -> None:
        problem = refused(service.post(body, content_type), 422, "malformed-form")
        assert not problem["retryable"]
        assert list(service.root.iterdir()) == []


class TestSeries:
    def test_it_can_be_pinned_in_the_query_for_every_kind_of_body(self, service: Spooling) -> None:
        url = f"{URL}?series=0123456789ab"
        bodies = [(closed(file_part(b"x")), FORM), (closed(part(b"x")), RELATED), (b"x", "application/dicom")]
        assert [service.post(body, kind, url).json()["series"] for body, kind in bodies] == ["0123456789ab"] * 3
        assert service.post(b"x", "application/dicom").json()["series"] is None

    def test_query_and_field_must_not_contradict_each_other(self, service: Spooling) -> None:
        body = closed(file_part(b"x"), field_part("series", b"1.2.3"))
        assert service.post(body, FORM, f"{URL}?series=1.2.3").json()["series"] == "1.2.3"
        refused(service.post(body, FORM, f"{URL}?series=1.2.4"), 422, "malformed-form")

    @pytest.mark.parametrize("series", ["Axial", "1..2", "1.2.", "1" * 65, "1.2;drop"])
    def test_what_is_neither_an_id_nor_a_uid_is_refused(self, service: Spooling, series: str) -> None:
        response = service.client.post(
            URL, params={"series": series}, content=b"x", headers={"Content-Type": "application/dicom"}
        )
        refused(response, 422, "invalid-request")


class TestRelated:
    def test_every_part_is_a_file(self, service: Spooling) -> None:
        contents = awkward_contents()
        body = closed(*(part(content, "Content-Type: application/dicom") for content in contents))
        answer = service.post(body, RELATED).json()
        assert answer["sha256"] == [hashlib.sha256(content).hexdigest() for content in contents]

    def test_the_limit_of_files_holds(self, service: Spooling) -> None:
        refused(service.post(closed(*[part(b"x")] * 6), RELATED), 413, "too-many-files")

    @pytest.mark.parametrize(
        "content_type",
        ["multipart/related; boundary=a-boundary", RELATED.replace("dicom", "dicom+json"), "multipart/mixed"],
    )
    def test_other_related_bodies_are_not_taken(self, service: Spooling, content_type: str) -> None:
        refused(service.post(closed(part(b"x")), content_type), 415, "unsupported-media-type")

    def test_a_body_without_parts_holds_no_file(self, service: Spooling) -> None:
        refused(service.post(closed(), RELATED), 422, "no-files")


class TestCounting:
    def test_a_stated_length_over_the_limit_is_refused_before_the_body_is_asked_for(self, small: Spooling) -> None:
        head = ("Content-Type: application/dicom", f"Content-Length: {MIB + 1}", "Expect: 100-continue")
        with small.connect(*head) as connection:
            answer = answer_on(connection)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"body-too-large" in answer

    def test_a_client_that_sends_it_all_the_same_can_read_the_refusal(self, small: Spooling) -> None:
        body = bytes(32 * MIB)
        with small.connect("Content-Type: application/dicom", f"Content-Length: {len(body)}") as connection:
            connection.sendall(body)
            assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")

    def test_an_endless_body_is_refused_and_cut_off_before_the_spool_holds_more_than_the_limit(
        self, small: Spooling
    ) -> None:
        most, sent, began = 0, 0, time.monotonic()
        chunk = b"10000\r\n" + bytes(65_536) + b"\r\n"
        connection = small.connect("Content-Type: application/zip", "Transfer-Encoding: chunked")
        with connection, suppress(OSError):  # cut off
            while time.monotonic() < began + 15:
                connection.sendall(chunk)
                sent += len(chunk)
                most = max(most, small.bytes_spooled())
                time.sleep(0.005 if sent < 2 * MIB else 0)  # so that the spool is seen filling up
        assert sent > MIB
        assert 0 < most <= MIB + 65_536
        assert time.monotonic() < began + 10
        assert list(small.root.iterdir()) == []

    @pytest.mark.parametrize(
        "lengths", [("-5",), ("5, 6",), ("5", "6"), ("five",), ("1" * 30,), ("0x10",), ("99999999999999999999",)]
    )
    def test_a_length_that_means_nothing_is_refused(self, small: Spooling, lengths: tuple[str, ...]) -> None:
        head = ("Content-Type: application/dicom", *(f"Content-Length: {length}" for length in lengths))
        with small.connect(*head) as connection:
            status = int(connection.recv(65536).split()[1])
        assert status in {400, 413}
        assert list(small.root.iterdir()) == []

    def test_a_body_that_is_refused_unread_ends_the_connection_and_one_that_was_read_does_not(
        self, small: Spooling
    ) -> None:
        unread = small.post(b"x" * 10_000, "text/plain")
        assert (unread.status_code, unread.headers["connection"]) == (415, "close")
        read = small.post(b"", FORM)
        assert (read.status_code, read.headers.get("connection")) == (422, None)


class TestSlow:
    def test_an_upload_that_stands_still_is_given_up(self, impatient: Spooling) -> None:
        began = time.monotonic()
        with impatient.connect("Content-Type: application/zip", "Content-Length: 100000") as connection:
            connection.sendall(bytes(50_000))
            answer = answer_on(connection)
            assert 0.4 < time.monotonic() - began < 2
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"upload-stalled" in answer
            assert list(impatient.root.iterdir()) == []

    def test_so_is_one_that_trickles(self, impatient: Spooling) -> None:
        began = time.monotonic()
        with impatient.connect("Content-Type: application/zip", "Content-Length: 100000") as connection:
            connection.settimeout(0.02)
            answer = b""
            while not answer and time.monotonic() < began + 10:
                connection.sendall(b"x")
                try:
                    answer = connection.recv(65536)
                except TimeoutError:
                    continue
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 2

    def test_a_slow_and_steady_one_is_not(self, impatient: Spooling) -> None:
        def slowly() -> Iterator[bytes]:
            for _ in range(8):
                time.sleep(0.2)
                yield bytes(1_000)

        assert impatient.post(slowly(), "application/zip").json()["sizes"] == [8_000]


class TestDisconnect:
    @pytest.mark.parametrize("content_type", ["application/zip", FORM])
    def test_a_client_that_leaves_leaves_nothing_and_no_traceback(
        self, service: Spooling, content_type: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with capture_logs() as logs:
            with service.connect(f"Content-Type: {content_type}", "Content-Length: 9000000") as connection:
                connection.sendall(file_part(bytes(4_000_000))[:3_000_000])
                deadline = time.monotonic() + 5
                while service.bytes_spooled() < 1_000_000:
                    assert time.monotonic() < deadline, "nothing was spooled"
            service.wait_until_empty()
            deadline = time.monotonic() + 5
            while not any(log["event"] == "request" for log in logs):
                assert time.monotonic() < deadline, "the request did not end"
                time.sleep(0.01)
        assert {log["event"] for log in logs} == {"refused", "request"}
        assert not [record for record in caplog.records if record.name.startswith("uvicorn") and record.exc_info]


class TestDisk:
    def test_too_little_free_disk_is_507_before_the_body_is_read(self, tmp_path: Path) -> None:
        with spooling(tmp_path / "spool", disk_reserve_bytes=2**60) as service:
            for body, kind in ((b"x", "application/zip"), (closed(file_part(b"x")), FORM)):
                response = service.post(body, kind)
                problem = refused(response, 507, "insufficient-storage")
                assert problem["retryable"]
                assert int(response.headers["retry-after"]) >= 1
            assert list(service.root.iterdir()) == []

    def test_the_service_is_not_ready_then(self) -> None:
        with quick_service(disk_reserve_bytes=2**60) as (_, client):
            readiness = client.get("/readyz")
            assert readiness.status_code == 503
            (storage,) = [one for one in readiness.json()["parts"] if one["name"] == "storage"]
            assert not storage["ready"]
