"""A local server that speaks the part of the hub's HTTP interface that a download of a dataset uses."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """Files of each dataset by name, its commit, and what was asked for.

    break_after: number of bytes after which a connection that carries a file is cut; from then on files are
        refused, or with `mends` sent whole.
    """

    files: dict[str, dict[str, bytes]]
    commits: dict[str, str]
    break_after: int | None = None
    mends: bool = False
    broken: bool = False
    url: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    authorization: set[str] = field(default_factory=set)


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Run the server on a free port of this machine while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path, self.headers.get("Range")))
            if token := self.headers.get("Authorization"):
                hub.authorization.add(token)
            for repo, files in hub.files.items():
                commit = hub.commits[repo]
                names = (commit, commit[:7], "main")
                for revision in names:
                    if path == f"/api/datasets/{repo}/revision/{revision}":
                        info = {
                            "_id": "1",
                            "id": repo,
                            "sha": commit,
                            "private": False,
                            "downloads": 0,
                            "likes": 0,
                            "tags": [],
                            "siblings": [{"rfilename": name} for name in files],
                        }
                        self.send(200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body)
                        return
                    if path.startswith(f"/api/datasets/{repo}/tree/{revision}"):
                        tree = [
                            {
                                "type": "file",
                                "path": name,
                                "size": len(data),
                                "oid": hashlib.sha1(data).hexdigest(),
                            }
                            for name, data in files.items()
                        ]
                        self.send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"}, body)
                        return
                    prefix = f"/datasets/{repo}/resolve/{revision}/"
                    if path.startswith(prefix) and path.removeprefix(prefix) in files:
                        self.file(files[path.removeprefix(prefix)], commit, body)
                        return
            error = {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no such revision"}
            self.send(404, b"{}", error, body)

        def file(self, data: bytes, commit: str, body: bool) -> None:
            if hub.broken:
                self.send(500, b"", {}, body)
                return
            headers = {
                "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
                "X-Repo-Commit": commit,
                "Accept-Ranges": "bytes",
            }
            start = 0
            if wanted := self.headers.get("Range"):
                start = int(wanted.removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            if body and hub.break_after is not None and len(data) > hub.break_after:
                self.send_response(206 if start else 200)
                for name, value in {"Content-Length": str(len(data) - start), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data[start : start + hub.break_after])
                self.wfile.flush()
                hub.broken, hub.break_after = not hub.mends, None
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.send(206 if start else 200, data[start:], headers, body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
