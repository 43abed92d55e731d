"""The samples of a release, kept as a parquet file so that the next start need not parse the JSON files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from egost.tasks.cache import cache_root, write_whole
from egost.tasks.errors import CacheError
from egost.tasks.release.questions import Excluded, read_questions
from egost.tasks.sample import Sample

INDEX_VERSION = 1
"""Raised whenever the same files would give other samples."""

_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "task", "way")),
        ("part", pa.int8()),
        ("clip", pa.string()),
        ("question", pa.string()),
        ("options", pa.list_(pa.string())),
        ("answer", pa.string()),
    ]
)


@dataclass(frozen=True)
class SampleIndex:
    """Normalised samples of a release, what was left out, and the hash of the files they came from."""

    samples: tuple[Sample, ...]
    excluded: tuple[Excluded, ...]
    files_sha256: str

    @property
    def excluded_counts(self) -> dict[str, int]:
        """Number of entries left out, by reason."""
        return dict(Counter(item.reason for item in self.excluded))


def read_samples(files: dict[str, Path]) -> SampleIndex:
    """The samples of the given question files (by name), from the index where it exists.

    The index is keyed by the content of all files and `INDEX_VERSION`; one that cannot be read is made again.
    Raises ReleaseError (see `questions.read_questions`) and CacheError.
    """
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name}:{hashlib.sha256(path.read_bytes()).hexdigest()};".encode())
    key = digest.hexdigest()
    stored = cache_root() / "index" / f"{key[:32]}-v{INDEX_VERSION}.parquet"
    if index := _read(stored, key):
        return index
    samples, excluded = read_questions(files)
    _write(stored, samples, excluded)
    return SampleIndex(tuple(samples), tuple(excluded), key)


def _read(path: Path, key: str) -> SampleIndex | None:
    """The index in `path`; None where there is none that can be read."""
    try:
        table = pq.read_table(path)
        left_out = json.loads((table.schema.metadata or {})[b"excluded"])
        return SampleIndex(
            samples=tuple(Sample.from_doc(row) for row in table.to_pylist()),
            excluded=tuple(Excluded(**item) for item in left_out),
            files_sha256=key,
        )
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, samples: list[Sample], excluded: list[Excluded]) -> None:
    note = {b"excluded": json.dumps([asdict(item) for item in excluded]).encode()}
    table = pa.Table.from_pylist([s.to_doc() for s in samples], schema=_SCHEMA.with_metadata(note))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    try:
        write_whole(path, sink.getvalue().to_pybytes())
    except OSError as error:
        raise CacheError(
            f"cannot write the sample index {path}: {error}. Free some space or set EGOST_CACHE to another folder."
        ) from error
