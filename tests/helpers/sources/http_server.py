"""A local HTTP server for tests that download, and the files they put on it."""

import io
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TEXT = "index,y\n" + "".join(f"{i},{i % 7}\n" for i in range(40_000))


class Server(ThreadingHTTPServer):
    """Answers every path as ``answer`` says; counts the requests."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.requests = 0
        self.body = TEXT.encode()
        self.status = 200
        self.length: int | None = None  # said, where it is not that of the body
        self.pause_after: int | None = None  # bytes, then silence
        self.delay = 0.0
        self.released = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    def url(self, name: str = "file.csv") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.requests += 1
        time.sleep(server.delay)
        self.send_response(server.status)
        self.send_header("Content-Length", str(server.length or len(server.body)))
        self.end_headers()
        if server.pause_after is None:
            self.wfile.write(server.body)
        else:
            self.wfile.write(server.body[: server.pause_after])
            self.wfile.flush()
            server.released.wait(60)

    def log_message(self, *arguments: object) -> None:
        pass


def archive(content: bytes, member: str = "inner.csv") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("read.me", "not this")
        file.writestr(member, content)
    return packed.getvalue()


def left_in(cache: Path) -> set[str]:
    """Every file but locks, which stay."""
    return {path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"}
