"""Which TRL training works with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

from egost.tasks.errors import EgostError

TESTED_TRL = "1.16"
"""The series of TRL whose private methods our trainers were written against."""


class TrlVersionError(EgostError):
    """TRL is missing, or is not of the series that training was tested with."""


def check_trl() -> None:
    """Raise TrlVersionError unless the installed TRL is of the series that was tested."""
    try:
        found = Version(version("trl"))
    except PackageNotFoundError as error:
        raise TrlVersionError("TRL is not installed. Install it: pip install 'egost[train]'") from error
    if f"{found.major}.{found.minor}" != TESTED_TRL:
        raise TrlVersionError(
            f"TRL {found} is installed; training relies on how TRL {TESTED_TRL} works inside. Install it: "
            f"pip install 'trl=={TESTED_TRL}.*'"
        )
