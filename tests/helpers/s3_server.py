"""A real S3-protocol server on loopback, and a gate in front of it that can answer with an error instead."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REASONS = {403: "AccessDenied", 500: "InternalError", 507: "InsufficientStorage"}
Refuse = Callable[[str, str], int | None]
"""(method, path) → the status to answer with, None to let the request through."""


class Gate:
    """Passes requests on to the server, or refuses them; ``refuse`` may be changed at any time."""

    def __init__(self, port: int) -> None:
        self.refuse: Refuse = lambda method, path: None
        self.refused = 0
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                body = self._body()
                status = gate.refuse(self.command, self.path)
                if status is not None:
                    gate.refused += 1
                    content = f"<Error><Code>{REASONS[status]}</Code><Message>{REASONS[status]}</Message></Error>".encode()
                    self._answer(status, {"Content-Type": "application/xml"}, b"" if self.command == "HEAD" else content)
                    return
                server = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                sent = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "expect", "connection")}
                server.request(self.command, self.path, body, sent | {"Content-Length": str(len(body))})
                answer = server.getresponse()
                content = answer.read()
                headers = {k: v for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection")}
                if self.command != "HEAD":
                    headers.pop("content-length", None)
                    headers.pop("Content-Length", None)
                self._answer(answer.status, headers, content)
                server.close()

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return body

            def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response_only(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                if self.command != "HEAD" and "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

            def log_message(self, *words: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@contextmanager
def s3_server() -> Iterator[Gate]:
    """A server with the bucket ``bucket``, and the environment variables that lead to it through a gate."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    gate = Gate(port)
    named = {
        "AWS_ENDPOINT_URL": f"http://{gate.endpoint}",
        "AWS_ACCESS_KEY_ID": "a-key",
        "AWS_SECRET_ACCESS_KEY": "a-very-secret-word",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {key: os.environ.get(key) for key in named}
    os.environ.update(named)
    try:
        end = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT"), timeout=5)
                break
            except OSError:
                if time.monotonic() > end or process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield gate
    finally:
        process.kill()
        process.wait()
        gate.server.shutdown()
        gate.server.server_close()
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
