"""What the name of a file says: an archive, one part of an archive, or neither."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ARCHIVE_SUFFIXES = (".tar.bz2", ".tar.gz", ".tar.xz", ".tbz2", ".tgz", ".txz", ".tar", ".zip")
"""The longest first, as the pattern of a part's name needs them."""

_UNREAD = (
    *(".rar", ".r00", ".7z", ".zst", ".tzst", ".lz4", ".lz", ".lzma", ".tar.z", ".cab", ".iso", ".lzh"),
    *(".arj", ".ace", ".tar.br", ".xar", ".wim"),
)
"""Archives that Python's library cannot read."""


def _any_of(suffixes: Iterable[str]) -> str:
    return "|".join(map(re.escape, suffixes))


_COUNTED = r"(?P<form>[._-]?(?:part)?[._-]?)(?P<label>\d{1,5}|[a-z]{2,8})"
_PART = re.compile(rf"(?P<stem>.+)(?P<suffix>{_any_of(ARCHIVE_SUFFIXES)}){_COUNTED}")
"""`clips.tar.00`, `clips.tar.gzaa`, `clips.zip.001`, `clips.tar.gz.part1`, `clips.tgz-part-aa`."""

_BARE_PART = re.compile(
    r"(?P<stem>.+)(?P<suffix>)(?P<form>\.part[._-]?|\.(?=\d\d))(?P<label>\d{1,5}|[a-z]{2})"
)
"""`clips.part1`, `clips.001`: only what they begin with says that they are archives."""

SPAN, INSIDE = ".z", "inside"
_SPANNED = re.compile(r"(?P<stem>.+)(?P<suffix>)(?P<form>\.z)(?P<label>\d{2,5})")
"""`clips.z01`, to which `clips.zip` is the last part: a zip that counts its parts itself."""

_COUNTED_INSIDE = re.compile(
    rf"(?P<stem>.+)\.part(?P<label>\d{{1,5}})(?P<suffix>{_any_of(ARCHIVE_SUFFIXES)})"
)
"""`clips.part1.zip`: a part, or a whole archive of the first of the release's four parts."""

_UNREAD_PART = re.compile(
    rf".+(?:{_any_of(s for s in _UNREAD if s != '.tar.z')})[._-]?(?:part)?[._-]?(?:\d{{1,5}}|a+[a-z])"
)
"""Not of a `.tar.Z`: `clips.tar.zaaa` is how `split` calls the part after `clips.tar.yz`."""

_UNREAD_FIRST = re.compile(rf".+(?:{_any_of(_UNREAD)})(?:[._-]?(?:part)?[._-]?(?:0*[01]|a{{2,8}}))?")


@dataclass(frozen=True)
class ArchiveName:
    """What the name of an archive, or of a part of one, says; form and label are empty where it is whole."""

    path: Path
    stem: str
    suffix: str
    form: str
    label: str

    @property
    def of(self) -> tuple[Path, str, str]:
        """What all parts of one archive share: folder, name and kind."""
        return self.path.parent, self.stem, ".zip" if self.form == SPAN else self.suffix

    @property
    def number(self) -> int | str:
        return int(self.label) if self.label.isdigit() else self.label

    def with_label(self, label: str) -> Path:
        """How another part is called."""
        name = self.path.name
        start = len(name) - len(self.label) - (len(self.suffix) if self.form == INSIDE else 0)
        return self.path.with_name(name[:start] + label + name[start + len(self.label) :])


def is_packed(path: Path) -> bool:
    """Whether a file is, by its name, an archive or a part of one."""
    return archive_name(path) is not None


def is_unread(path: Path) -> bool:
    """Whether a file is, by its name, an archive, or the first part of one, that egost cannot unpack."""
    return bool(_UNREAD_FIRST.fullmatch(path.name.lower())) and not is_packed(path)


def archive_name(path: Path) -> ArchiveName | None:
    name, form = path.name.lower(), None
    if _UNREAD_PART.fullmatch(name):
        return None
    match = _PART.fullmatch(name)
    if match and name.endswith((*ARCHIVE_SUFFIXES, *_UNREAD)):
        # `clips.tar.gz` may follow `clips.tar.gy`.
        before = path.with_name(f"{path.name[:-1]}{chr(ord(path.name[-1]) - 1)}")
        match = match if match["label"].isalpha() and before.exists() else None
    if match:
        pass
    elif name.endswith(ARCHIVE_SUFFIXES):
        match, form = _COUNTED_INSIDE.fullmatch(name), INSIDE
    elif name.endswith(_UNREAD):
        return None
    else:
        match = _SPANNED.fullmatch(name) or _BARE_PART.fullmatch(name)
    if match:
        stem, suffix = path.name[: match.end("stem")], match["suffix"]
        return ArchiveName(path, stem, suffix, form or match["form"], match["label"])
    suffix = next((suffix for suffix in ARCHIVE_SUFFIXES if name.endswith(suffix)), "")
    return ArchiveName(path, path.name[: -len(suffix)], suffix, "", "") if suffix else None
