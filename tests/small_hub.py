"""A small Hugging Face Hub on this machine, to which its client is sent: repositories by name, two commits of each."""

from __future__ import annotations

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
    """Repositories, by name: their files; what is gated, or answers with a status."""

    def __init__(self, site: Site) -> None:
        self.site, self.address = site, site.address
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated = set[str]()
        self.status = 200
        self.asked = list[str]()

    def reply(self, asked: Asked) -> Reply:
        path = asked.path.split("?")[0].replace("%2F", "/")
        self.asked.append(path)
        if self.status != 200:
            return Reply(b"", self.status)
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
        if api:
            info = {"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
            return Reply(json.dumps(info).encode())
        if repo in self.gated:
            return Reply(b"", 403, {"X-Error-Code": "GatedRepo", "X-Repo-Commit": commit})
        content = files.get("/".join(rest[2:]))
        if content is None:
            return Reply(b"", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        return Reply(content, headers={"X-Repo-Commit": commit}, etag=f'"{hashlib.sha256(content).hexdigest()}"')


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
