"""Upload of a folder to the Hub, by its client, with one-sentence errors."""

from __future__ import annotations

from pathlib import Path

from robust_transfer.errors import OutputError


def upload(folder: Path, repo: str, *, private: bool) -> str:
    """Make the repository, if there is none, and put the folder's files there in one commit; returns its address."""
    from huggingface_hub import HfApi, errors

    api = HfApi(library_name="robust-transfer")
    try:
        api.create_repo(repo, private=private or None, exist_ok=True)  # None: as the owner has it by default
        if private and not api.model_info(repo).private:
            raise OutputError(
                f"hf:{repo} is there already and open to all: make it private on its page, or push without --private"
            )
        done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="robust-transfer push")
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise OutputError(
                f"the Hub does not let you write to hf:{repo}: run `hf auth login` with a token that may write there"
            ) from None
        raise OutputError(f"the Hub did not take hf:{repo} ({_short(error)}): push again") from None
    except errors.OfflineModeIsEnabled:
        raise OutputError("the Hub must not be asked (HF_HUB_OFFLINE): push without it, or --dry-run DIR") from None
    except OutputError:
        raise
    except Exception as error:  # the HTTP library's, which differs between the client's versions
        raise OutputError(
            f"hf:{repo} was not pushed ({type(error).__name__}: {_short(error)}): push again, or --dry-run DIR"
        ) from None
    return str(getattr(done, "commit_url", done))


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
