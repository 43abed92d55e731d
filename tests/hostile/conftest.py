"""Each hostile test says what came of its attack; the run ends with a table of all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import attacks
import pytest
from canaries import CANARIES
from loguru import logger
from wire_server import WireServer, serve_wire

from egost.tasks.settings import SETTINGS


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


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CANARIES.keys() == {setting.name for setting in SETTINGS if setting.secret}
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EGOST_PROTOCOL", "uniform8+224x224")
    monkeypatch.setattr("egost.model_adapters.server.server_api.TRIES", 1)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What was logged, at any level, and printed."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.NOTSET, "httpx")
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level=0, diagnose=True, backtrace=True)

    def collect() -> str:
        printed = capfd.readouterr()
        # httpcore's own debugging shows each byte, and is asked for by nobody.
        records = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpcore", "asyncio"))]
        return "".join([*lines, *records, printed.out, printed.err])

    yield collect
    logger.remove(sink)
