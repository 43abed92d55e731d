"""What a server says of itself beside a name: settings that replies depend on, told as one more served name.

vLLM lists its names at `/v1/models`, with neither the revision nor the dtype. `egost serve` therefore adds a name
of the form `egost?dtype=bfloat16&revision=...`, which the adapter reads and records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, urlencode

_MARK = "egost?"

ROLLOUTS = "rollouts"
"""The setting of a server that samples for a training: its weights are not those that it was started with."""


def as_served_name(settings: Mapping[str, str]) -> str:
    """The name that tells the settings; the same for the same settings."""
    return _MARK + urlencode(sorted(settings.items()))


def told_settings(served_names: Iterable[str]) -> dict[str, str] | None:
    """The settings that one of the names tells; None where `egost serve` did not start the server."""
    for name in served_names:
        if name.startswith(_MARK):
            return dict(parse_qsl(name.removeprefix(_MARK)))
    return None


def own_names(served_names: Iterable[str]) -> list[str]:
    """The names that stand for the model."""
    return [name for name in served_names if not name.startswith(_MARK)]
