"""A local server that speaks the part of the hub's HTTP interface that a download of a dataset or a model uses."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from scripted_server import ScriptedHandler, serve


@dataclass
class Hub:
    """Files of each dataset or model by name, its commit, and what was asked for.

    gated: names that are refused to those who did not accept their terms.

    break_after: number of bytes after which a connection that carries a file is cut; from then on files are
        refused, or with `mends` sent whole.
    """

    files: dict[str, dict[str, bytes]]
    commits: dict[str, str]
    break_after: int | None = None
    mends: bool = False
    broken: bool = False
    url: str = ""
    gated: frozenset[str] = frozenset()
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    authorization: set[str] = field(default_factory=set)


class _Handler(ScriptedHandler):
    of: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.of.requests.append((self.command, path, self.headers.get("Range")))
        if token := self.headers.get("Authorization"):
            self.of.authorization.add(token)
        for repo, files in self.of.files.items():
            commit = self.of.commits[repo]
            if repo in self.of.gated and f"/{repo}/" in path:
                return self.raw(b"{}", status=403, headers={"X-Error-Code": "GatedRepo"})
            for revision in (commit, commit[:7], "main"):
                if re.fullmatch(f"/api/(datasets|models)/{repo}/revision/{revision}", path):
                    return self.reply(_about(repo, commit, files))
                if re.match(f"/api/(datasets|models)/{repo}/tree/{revision}", path):
                    return self.reply(
                        [
                            {"type": "file", "path": n, "size": len(d), "oid": _sha1(d)}
                            for n, d in files.items()
                        ]
                    )
                name = re.sub(f"^/(datasets/)?{repo}/resolve/{revision}/", "", path)
                if name != path and name in files:
                    return self.file(files[name], commit)
        known = any(f"/{repo}/" in path for repo in self.of.files)
        code = "RevisionNotFound" if known else "RepoNotFound"
        return self.raw(b"{}", status=404, headers={"X-Error-Code": code, "X-Error-Message": "not there"})

    def file(self, data: bytes, commit: str) -> None:
        hub = self.of
        if hub.broken:
            return self.raw(b"", status=500)
        headers = {"ETag": f'"{_sha1(data)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        start = 0
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        sent = None
        if self.command == "GET" and hub.break_after is not None and len(data) > hub.break_after:
            sent = hub.break_after
            hub.broken, hub.break_after = not hub.mends, None
        return self.raw(data[start:], status=206 if start else 200, headers=headers, sent=sent)


def _about(repo: str, commit: str, files: dict[str, bytes]) -> dict[str, Any]:
    counts = {"private": False, "downloads": 0, "likes": 0, "tags": []}
    return {"_id": "1", "id": repo, "sha": commit, **counts, "siblings": [{"rfilename": n} for n in files]}


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def serve_hub(hub: Hub) -> Iterator[Hub]:
    """Run the server on a free port of this machine while the context lasts."""
    with serve(hub, _Handler) as running:
        yield running
