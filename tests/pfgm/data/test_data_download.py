"""Downloads, against a real server on this machine: resumed, checked, and given up with a reason."""

import gzip
import hashlib
import logging
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from pfgm.config import DataConfig
from pfgm.data.dataset import load_data
from pfgm.data.errors import DataError
from pfgm.data.pictures import download as download_module
from pfgm.data.pictures.download import DownloadError, Remote, fetch
from pfgm.data.readers import cifar as cifar_module
from pfgm.data.readers import idx as idx_module

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()


class Server:
    """Files by path; what it was asked; and how it misbehaves."""

    def __init__(self) -> None:
        self.files = {"/a.bin": CONTENT}
        self.asked: list[tuple[str, str | None]] = []
        self.cut_after: int | None = None  # bytes of each answer, then the connection is closed
        self.cuts = 10**9
        self.ranges = True
        self.status: list[int] = []  # of the next answers, instead of what was asked for
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.asked.append((request.path, asked))
        content = self.files.get(request.path)
        if self.status or content is None:
            request.send_error(self.status.pop(0) if self.status else 404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        if start >= len(content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(content)}")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(content) - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        part = content[start:]
        if self.cut_after is not None and self.cuts > 0 and len(part) > self.cut_after:
            self.cuts -= 1
            part = part[: self.cut_after]
        request.wfile.write(part)


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setattr(download_module, "WAIT_S", 0.001)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    server.thread.start()
    yield server
    server.http.shutdown()
    server.thread.join()
    server.http.server_close()


def remote(server: Server, content: bytes = CONTENT, algorithm: str = "sha256", path: str = "/a.bin") -> Remote:
    return Remote(server.url + path, algorithm, hashlib.new(algorithm, content).hexdigest())


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_file_is_fetched_once(server, tmp_path, algorithm):
    target = tmp_path / "new" / "a.bin"
    assert fetch(remote(server, algorithm=algorithm), target).read_bytes() == CONTENT
    fetch(remote(server, algorithm=algorithm), target)
    assert server.asked == [("/a.bin", None)]
    assert [p.name for p in target.parent.iterdir() if p.suffix != ".lock"] == ["a.bin"]


def test_a_cut_connection_is_resumed_where_it_was_cut(server, tmp_path, caplog):
    server.cut_after, server.cuts = 120_000, 2
    with caplog.at_level(logging.INFO):
        assert fetch(remote(server), tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == [("/a.bin", None), ("/a.bin", "bytes=120000-"), ("/a.bin", "bytes=240000-")]
    assert "the connection was cut after 120000 bytes" in caplog.text


def test_a_stopped_download_goes_on_in_another_process_s_place(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(remote(server), tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == [("/a.bin", "bytes=1000-")]


def test_a_server_without_ranges_is_asked_from_the_start(server, tmp_path):
    server.ranges = False
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(remote(server), tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_that_is_whole_or_too_long(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    assert fetch(remote(server), tmp_path / "a.bin").read_bytes() == CONTENT
    (tmp_path / "b.bin.part").write_bytes(CONTENT + b"more")
    assert fetch(remote(server), tmp_path / "b.bin").read_bytes() == CONTENT


def test_another_file_than_was_published_is_not_kept(server, tmp_path):
    server.files["/a.bin"] = CONTENT[:-1] + b"?"
    with pytest.raises(DownloadError, match=r"sent another file than was published: SHA256 [0-9a-f]{64}, not [0-9a-f]{64}"):
        fetch(remote(server), tmp_path / "a.bin")
    assert not [p for p in tmp_path.iterdir() if p.suffix != ".lock"]
    server.files["/a.bin"] = CONTENT
    assert fetch(remote(server), tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_missing_file_is_asked_for_once(server, tmp_path):
    with pytest.raises(DownloadError, match=r"/none\.bin answers 404"):
        fetch(remote(server, path="/none.bin"), tmp_path / "none.bin")
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.status = [503, 500, 429]
    assert fetch(remote(server), tmp_path / "a.bin").read_bytes() == CONTENT
    server.status = [503] * download_module.TRIES
    with pytest.raises(DownloadError, match=r"does not come through \(503 Service Unavailable\), 0 bytes"):
        fetch(remote(server), tmp_path / "b.bin")


def test_a_server_that_always_cuts_at_the_start_is_given_up(server, tmp_path):
    server.cut_after = 0
    with pytest.raises(DownloadError, match=r"does not come through \(the connection was cut\), 0 bytes of it are in"):
        fetch(remote(server), tmp_path / "a.bin")
    assert len(server.asked) == download_module.TRIES


def test_no_server_no_web_address_no_folder(server, tmp_path, monkeypatch):
    with pytest.raises(DownloadError, match=r"does not come through .*refused"):
        fetch(Remote("http://127.0.0.1:9/a.bin", "md5", ""), tmp_path / "a.bin")
    with pytest.raises(DownloadError, match="is not a web address"):
        fetch(Remote(f"file://{tmp_path}/x", "md5", ""), tmp_path / "a.bin")
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="cannot be"):
        fetch(remote(server), tmp_path / "file" / "a.bin")


def test_a_silent_server_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(download_module, "TRIES", 2)
    release = threading.Event()
    monkeypatch.setattr(server, "answer", lambda request: release.wait(20))
    try:
        with pytest.raises(DownloadError, match=r"does not come through .*timed out"):
            fetch(remote(server), tmp_path / "a.bin")
    finally:
        release.set()


def test_several_at_once_fetch_once(server, tmp_path):
    threads = [threading.Thread(target=fetch, args=(remote(server), tmp_path / "a.bin")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert len(server.asked) == 1


def idx_file(n: int) -> bytes:
    images = np.random.default_rng(n).integers(0, 256, (n, 5, 5), dtype=np.uint8)
    return gzip.compress(b"\0\0\x08\x03" + b"".join(k.to_bytes(4, "big") for k in images.shape) + images.tobytes())


def labels_file(n: int) -> bytes:
    return gzip.compress(b"\0\0\x08\x01" + struct.pack(">i", n) + bytes(k % 10 for k in range(n)))


def test_fashion_mnist_is_downloaded_only_when_asked(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PFGM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(idx_module, "DEBIAN", tmp_path / "none")
    monkeypatch.setattr(idx_module, "SITE", server.url + "/")
    with pytest.raises(DataError, match="say download: true"):
        load_data(DataConfig(name="fashion_mnist"))
    assert not server.asked
    files = {name: idx_file(n) for name, n in zip(idx_module.MD5, (9, 6), strict=True)}
    told = {name: labels_file(n) for name, n in zip(idx_module.LABELS_MD5, (9, 6), strict=True)}
    server.files = {f"/{name}": content for name, content in (files | told).items()}
    ways = r"give path: .* package dataset-fashion-mnist, or say download: true"
    with pytest.raises(DataError, match=rf"data\.download: .* sent another file than was published: MD5 .*; {ways}"):
        load_data(DataConfig(name="fashion_mnist", download=True))
    monkeypatch.setattr(idx_module, "MD5", {name: hashlib.md5(content).hexdigest() for name, content in files.items()})
    monkeypatch.setattr(idx_module, "LABELS_MD5", {name: hashlib.md5(content).hexdigest() for name, content in told.items()})
    data = load_data(DataConfig(name="fashion_mnist", download=True))
    assert (data.info.n, len(data.test)) == (9, 6)
    assert data.labels.tolist() == [k % 10 for k in range(9)] and data.test_labels.tolist() == list(range(6))
    server.files.clear()
    assert load_data(DataConfig(name="fashion_mnist")).info.hash == data.info.hash  # from the cache, without being asked


def test_cifar_10_is_downloaded_only_when_asked(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PFGM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar_module, "ARCHIVE", remote(server))
    with pytest.raises(DataError, match="say download: true"):
        load_data(DataConfig(name="cifar10"))
    assert not server.asked
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz is not a readable archive"):
        load_data(DataConfig(name="cifar10", download=True))
    assert len(server.asked) == 1
    server.files.clear()
    (tmp_path / "cache" / "cifar-10" / "cifar-10-python.tar.gz").unlink()
    with pytest.raises(DataError, match=r"data\.download: .* answers 404 Not Found; give path: the archive .* download: true"):
        load_data(DataConfig(name="cifar10", download=True))
