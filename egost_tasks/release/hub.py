"""Downloads the official release from the Hugging Face hub, at pinned revisions, and finds it again.

`huggingface_hub` itself reads `HF_TOKEN`, `HF_ENDPOINT` and `HF_HOME` and shows the progress. It resumes a cut
connection where it broke. After a killed process the files that had arrived whole are kept, and the one under way
begins anew.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egost.tasks.cache import cache_root, not_written, write_whole
from egost.tasks.errors import EgostError, ReleaseError, download_command
from egost.tasks.json_text import read_json
from egost.tasks.keys import check_url, log_without_keys, redacted
from egost.tasks.release import NOT_RECORDED

QUESTIONS_REPO = "openinterx/Ego-ST-bench"
QUESTIONS_REVISION = "54971f7"
"""The revision of the questions that the loader was written for."""

CLIPS_REPO = "openinterx/Ego-ST-video"
CLIPS_REVISION = "main"
"""No revision of the clips is published together with the questions. So the first download records the commit
that `main` meant, and later ones ask for that commit."""

RELEASE_RECORD = "egost_release.json"

_BODY_ERRORS = (ValueError, TypeError, AttributeError, LookupError, AssertionError, RecursionError)
"""What `huggingface_hub` raises, according to where it stumbles, on a body that is not what it expects."""


@dataclass(frozen=True)
class Snapshots:
    """What a download left: the folders, and the commit of each of the two repositories."""

    roots: tuple[Path, ...]
    revision: str
    clips_revision: str


def download(
    to: Path | None = None, *, questions_revision: str | None = None, clips_revision: str | None = None
) -> Snapshots:
    """Download questions and clips, into the hub's cache or into the folder `to`.

    Without revisions: `QUESTIONS_REVISION`, and for the clips the commit of the first download, else
    `CLIPS_REVISION`. A second call gets what is missing.
    Raises ReleaseError when the hub cannot be reached or does not have a revision, CacheError when its record
    cannot be written.
    """
    record = (to or _default_record_folder()) / RELEASE_RECORD
    known = _read_record(record)
    questions = _snapshot(QUESTIONS_REPO, questions_revision or QUESTIONS_REVISION, to)
    clips = _snapshot(CLIPS_REPO, clips_revision or known.get("clips_revision") or CLIPS_REVISION, to)
    snapshots = Snapshots(tuple(dict.fromkeys((questions[0], clips[0]))), questions[1], clips[1])
    _write_record(record, snapshots)
    return snapshots


def cached_snapshots() -> Snapshots | None:
    """What `download` left in the hub's cache; None when nothing is there (or not any more)."""
    known = _read_record(_default_record_folder() / RELEASE_RECORD)
    if not known:
        return None
    roots = tuple(Path(root) for root in known["roots"])
    if not all(root.is_dir() for root in roots):
        return None
    return Snapshots(roots, known["revision"], known["clips_revision"])


def recorded_revision(root: Path) -> str:
    """Commit of the questions in a folder that `download` filled, else `NOT_RECORDED`."""
    return str(_read_record(root / RELEASE_RECORD).get("revision", NOT_RECORDED))


def _snapshot(repo: str, revision: str, to: Path | None) -> tuple[Path, str]:
    from huggingface_hub import HfApi, snapshot_download

    with from_hub(repo, revision, f"datasets/{repo}", ReleaseError):
        commit = HfApi().dataset_info(repo, revision=revision).sha
        if not re.fullmatch("[0-9a-f]{40}", commit or ""):
            raise ValueError("it names no commit")
        return Path(snapshot_download(repo, repo_type="dataset", revision=commit, local_dir=to)), commit


@contextmanager
def from_hub(name: str, revision: str | None, page: str, failed: type[EgostError]) -> Iterator[None]:
    """Raise `failed` where the hub does not give a model or a dataset, or says what no hub says (a page to log in).

    page: its path on the hub.
    """
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError

    check_url(ENDPOINT, "HF_ENDPOINT", "HF_TOKEN", failed)
    for library in ("httpx", "httpx2", "huggingface_hub.utils._http"):
        log_without_keys(library)
    try:
        yield
    except (HTTPError, LocalEntryNotFoundError, OSError, *_BODY_ERRORS) as error:
        raise failed(_not_got(name, revision, page, error)) from error


def _not_got(name: str, revision: str | None, page: str, error: Exception) -> str:
    from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE
    from huggingface_hub.errors import (
        GatedRepoError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return (
            f"the hub gives {name} to those who accepted its terms. Accept them at {ENDPOINT}/{page}, "
            "then set HF_TOKEN."
        )
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no {name}, or hides it. Check the spelling; of a private one set HF_TOKEN."
    if isinstance(error, RevisionNotFoundError):
        return f"the hub's {name} has no revision {revision}. Name another with --revision."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        return f"{name} did not arrive whole: {not_written(HF_HUB_CACHE, error)} HF_HOME names its folder."
    why = f"{type(error).__name__}: {redacted(str(error))}"
    if not isinstance(error, (HTTPError, OSError)):
        why = f"{ENDPOINT} does not answer as a hub does ({why:.200})"
    return (
        f"could not download {name}{f' at {revision}' if revision else ''}: {why}. What has arrived is kept; run the "
        "same command again to go on. A private mirror: HF_ENDPOINT; a token: HF_TOKEN."
    )


def _default_record_folder() -> Path:
    return cache_root() / "official"


def _read_record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        record: dict[str, Any] = read_json(path)
        texts = [*record["roots"], record["revision"], record["clips_revision"]]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("roots and revisions are not all texts")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(
            f"{path} is no record of a download ({error!r:.200}). Delete it and run: {download_command()}"
        ) from error
    return record


def _write_record(path: Path, snapshots: Snapshots) -> None:
    record = {
        "roots": [str(root) for root in snapshots.roots],
        "revision": snapshots.revision,
        "clips_revision": snapshots.clips_revision,
    }
    write_whole(path, json.dumps(record, indent=1).encode())
