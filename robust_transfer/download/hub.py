"""Files of the Hugging Face Hub, through ``huggingface_hub`` and its cache; each name is pinned to a commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TypeVar

from robust_transfer.download.cache import sha256_of, storing_message
from robust_transfer.download.hub_files import BESIDE, HubName, choose, is_index, read_hub_name, within
from robust_transfer.errors import CheckpointError, OutputError
from robust_transfer.files import expanded
from robust_transfer.progress import tell
from robust_transfer.texts import read_json

T = TypeVar("T")


def fetch_from_hub(
    text: str, *, folder: Path | str | None, hidden: bool, timeout: float
) -> tuple[Path, tuple[Path, ...], str, str]:
    """Download ``hf:OWNER/REPO[@REVISION][/FILE]`` into the Hub's cache, or find it there.

    Returns the file of weights, or the index of sharded ones; the files that belong to it (shards, ``config.json``);
    the name with the commit; the commit. Without a network, or with ``HF_HUB_OFFLINE=1``, the cache is used alone.
    ``HF_ENDPOINT``, ``HF_HOME`` and a token (``hf auth login``) are the Hub client's. Raises :class:`ConfigError`,
    :class:`CheckpointError` and :class:`OutputError` as :func:`robust_transfer.download.fetch`.
    """
    name = read_hub_name(text)
    cache = None if folder is None else expanded(folder)
    with _quiet(hidden):
        revision, files = _listing(name, cache, hidden, timeout)
        file = choose(name, files)
        # By the revision that was given, whose commit the client notes for the time without a network; the rest by that.
        path = _download(name, file, revision, cache, timeout)
        commit = path.parents[len(PurePosixPath(file).parts) - 1].name
        near = [PurePosixPath(file).with_name(beside).as_posix() for beside in BESIDE]
        wanted = [beside for beside in near if beside in files and beside != file]
        wanted += [shard for shard in _shards(path, file, name, files) if shard != file]
        there = tuple(_download(name, each, commit, cache, timeout) for each in wanted)
        return path, there, name.at(commit, file), commit


def _listing(name: HubName, cache: Path | None, hidden: bool, timeout: float) -> tuple[str | None, list[str]]:
    """Files of a repository and the revision to request: from the Hub, or from the cache where the Hub is unreachable."""
    from huggingface_hub import HfApi

    try:
        info = _asked(name, lambda: HfApi().model_info(name.repo, revision=name.revision, timeout=timeout))
    except _NotReachedError as error:
        commit, files = _cached(name, cache, error)
        tell(hidden, f"{error}: taking hf:{name.repo}@{commit[:12]} from the cache")
        return commit, files
    return name.revision, [sibling.rfilename for sibling in info.siblings or ()]


def _cached(name: HubName, cache: Path | None, why: Exception) -> tuple[str, list[str]]:
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    where, wanted = cache or Path(constants.HF_HUB_CACHE), name.revision or constants.DEFAULT_REVISION
    try:
        repositories = scan_cache_dir(where).repos
    except CacheNotFound:
        repositories = frozenset()
    for repository in repositories:
        for found in repository.revisions:
            known = (repository.repo_type, repository.repo_id) == ("model", name.repo)
            if known and (wanted in found.refs or wanted == found.commit_hash):
                snapshot = found.snapshot_path
                paths = (path for path in snapshot.rglob("*") if path.is_file())
                return found.commit_hash, [path.relative_to(snapshot).as_posix() for path in paths]
    raise CheckpointError(
        f"{why}, and hf:{name.repo} is not in its cache {where}: run `hf download {name.repo}` where there is a network and "
        f"copy the cache here, or give the path of the file"
    )


def _download(name: HubName, file: str, revision: str | None, cache: Path | None, timeout: float) -> Path:
    from huggingface_hub import hf_hub_download

    def ask() -> str:
        return hf_hub_download(name.repo, file, revision=revision, cache_dir=cache, etag_timeout=timeout)

    try:
        path = Path(_asked(name, ask))
    except _NotReachedError as error:
        raise CheckpointError(f"{error}, and {file} of hf:{name.repo} is not in its cache: run again later") from None
    stored = path.resolve().name  # the cache calls a large file by its sha256
    if len(stored) == 64 and stored != sha256_of(path):
        raise CheckpointError(f"{path} is damaged (its sha256 is not {stored}): delete {path.resolve()} and run again")
    return path


def _shards(path: Path, file: str, name: HubName, files: list[str]) -> list[str]:
    if not is_index(file):
        return []
    try:
        shards = sorted(set(read_json(path)["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"hf:{name.repo}/{file} is no index of weights: name another file, hf:{name.repo}/FILE"
        ) from None
    wanted = [within(file, shard) for shard in shards]
    if missing := [shard for shard in wanted if shard not in files]:
        raise CheckpointError(f"hf:{name.repo}/{file} names {missing[0]}, which the repository does not have")
    return wanted


class _NotReachedError(Exception):
    """Hub unreachable, or offline mode: the cache may help."""


def _asked(name: HubName, ask: Callable[[], T]) -> T:
    """Response of the Hub's client, its exceptions converted to one-sentence errors."""
    from huggingface_hub import errors

    try:
        return ask()
    except errors.GatedRepoError:
        raise CheckpointError(
            f"hf:{name.repo} is open only to those who accept its conditions: do so on its page on the Hub, then run "
            f"`hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"hf:{name.repo} is not on the Hub, or not open to you: check the name, or run `hf auth login`"
        ) from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(
            f"hf:{name.repo} has no revision {name.revision!r}: give a branch, a tag or a commit"
        ) from None
    except errors.HFValidationError as error:
        raise CheckpointError(f"hf:{name.repo} cannot be the name of a repository: {_short(error)}") from None
    except errors.OfflineModeIsEnabled:
        raise _NotReachedError("the Hub must not be asked (HF_HUB_OFFLINE)") from None
    except errors.LocalEntryNotFoundError as error:
        raise _NotReachedError(f"the Hub was not reached ({_short(error.__cause__ or error)})") from None
    except errors.EntryNotFoundError as error:
        raise CheckpointError(f"hf:{name.repo} does not give a file that it lists: {_short(error)}") from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status is not None and status >= 500:
            raise _NotReachedError(f"the Hub has trouble ({status})") from None
        what = "takes no more requests for now" if status == 429 else f"answered {_short(error)}"
        raise CheckpointError(f"the Hub {what} for hf:{name.repo}: try again later, or run `hf auth login`") from None
    except (
        Exception
    ) as error:  # the HTTP library's, which differs between the client's versions, share no base with ours
        if any(word in type(error).__name__ for word in ("Connect", "Timeout", "Network", "Protocol", "Proxy")):
            raise _NotReachedError(f"the Hub was not reached ({_short(error)})") from None
        if isinstance(error, OSError) and error.errno is not None:
            raise OutputError(storing_message(Path(error.filename or f"hf:{name.repo}"), error)) from None
        raise CheckpointError(
            f"hf:{name.repo} cannot be downloaded ({type(error).__name__}: {_short(error)}): download the file yourself "
            f"and give its path"
        ) from None


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


@contextmanager
def _quiet(hidden: bool) -> Iterator[None]:
    """Silence the client's log of failed attempts (the final error is reported once) and, if ``hidden``, its bars."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    logger = logging.getLogger("huggingface_hub")
    level, before = logger.level, are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    if hidden:
        disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if hidden and not before:
            enable_progress_bars()
