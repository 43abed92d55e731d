"""Each hostile test says what came of its attack; the run ends with a table of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attacks
import pytest
from wire_server import WireServer, serve_wire


@pytest.fixture
def attacked(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Callable[..., None]:
    """Counts the outcome of an attack and fails the test unless it was as expected."""
    kind = request.path.stem.removeprefix("test_")

    def check(
        call: Callable[[], Any], message: str | None = None, right: Callable[[Any], bool] = lambda _: True
    ) -> None:
        outcome = attacks.met(call, message, right)
        record_property("attack", (kind, outcome))
        assert outcome == ("right result" if message is None else "one clear message")

    return check


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with serve_wire() as running:
        yield running
