"""A small Hugging Face Hub on this machine, to which its client is sent: repositories by name, two commits of each.

What is pushed to a repository replaces its files.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants, file_download
from web import Asked, Reply, Site, serving

COMMIT, OLDER = "a" * 40, "b" * 40


class Hub:
    """Repositories, by name: their files; what is gated or private, or answers with a status."""

    def __init__(self, site: Site) -> None:
        self.site, self.address = site, site.address
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated, self.private = set[str](), set[str]()
        self.status = 200
        self.asked = list[str]()

    def reply(self, asked: Asked) -> Reply:
        path = asked.path.split("?")[0].replace("%2F", "/")
        self.asked.append(path)
        if self.status != 200:
            return Reply(b"", self.status)
        if path in ("/api/repos/create", "/api/validate-yaml") or path.endswith(("/preupload/main", "/commit/main")):
            return self._taken(path, asked.body)
        api = path.startswith("/api/models/")
        parts = path.removeprefix("/api/models/" if api else "/").split("/")
        repo, rest = "/".join(parts[:2]), parts[2:]
        files = self.repositories.get(repo)
        if files is None:
            return Reply(b"", 404, {"X-Error-Code": "RepoNotFound"})
        revision = rest[1] if len(rest) > 1 else "main"
        commit = {"main": COMMIT, COMMIT: COMMIT, "v1": OLDER, OLDER: OLDER}.get(revision)
        if commit is None:
            return Reply(b"", 404, {"X-Error-Code": "RevisionNotFound"})
        if api and rest[:1] == ["tree"]:
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ]
            return Reply(json.dumps(tree).encode())
        if api:
            info: dict[str, Any] = {"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
            info["private"] = repo in self.private
            return Reply(json.dumps(info).encode())
        if repo in self.gated:
            return Reply(b"", 403, {"X-Error-Code": "GatedRepo", "X-Repo-Commit": commit})
        content = files.get("/".join(rest[2:]))
        if content is None:
            return Reply(b"", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        return Reply(content, headers={"X-Repo-Commit": commit}, etag=f'"{hashlib.sha256(content).hexdigest()}"')

    def _taken(self, path: str, body: bytes) -> Reply:
        """Answer to what is pushed, as the client's steps come: the repository, the card, the files' sizes, the files."""
        if path == "/api/validate-yaml":
            return Reply(b'{"errors": [], "warnings": []}')
        if path == "/api/repos/create":
            told = json.loads(body)
            repo = "/".join(filter(None, [told.get("organization"), told["name"]]))
            if repo not in self.repositories and (told.get("private") or told.get("visibility") == "private"):
                self.private.add(repo)
            self.repositories.setdefault(repo, {})
            return Reply(json.dumps({"url": f"{self.address}/{repo}", "id": repo, "name": repo}).encode())
        repo = "/".join(path.removeprefix("/api/models/").split("/")[:2])
        if path.endswith("/preupload/main"):
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            return Reply(json.dumps({"files": files}).encode())
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        for line in lines:
            if line["key"] == "file":
                self.repositories[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        done = {"success": True, "commitOid": COMMIT, "commitUrl": f"{self.address}/{repo}/commit/{COMMIT}"}
        return Reply(json.dumps(done).encode())


class Everything(dict[str, Any]):
    """Pages of a site that one function answers."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def get(self, *_: Any) -> Any:
        return self.answer


@contextmanager
def small_hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """A Hub, until the block ends, and its client's ``cache``."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as site:
        found = Hub(site)
        site.pages = Everything(found.reply)
        # read from the environment when the client is imported
        monkeypatch.setattr(constants, "ENDPOINT", site.address)
        template = site.address + "/{repo_id}/resolve/{revision}/{filename}"
        for module in (constants, file_download):  # older clients copy it
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        new_session()
        yield found


def new_session() -> None:
    """Older clients look only then whether they are offline."""
    getattr(huggingface_hub.utils, "reset_sessions", lambda: None)()


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    new_session()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: True, raising=False)
