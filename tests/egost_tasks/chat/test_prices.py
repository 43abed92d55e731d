"""Prices are the makers' own, known for what `egost models` recommends, and recorded with the account."""

from __future__ import annotations

import pytest

from egost.model_adapters.known_models import known_models
from egost.tasks.chat.reading import Completion
from egost.tasks.chat.usage import Tally, Usage, price_usd, prices_of, usd_per_million

KNOWN = "gpt-4o-2024-08-06"


def used(asked: str, *snapshots: str, tokens_in: int = 1_000_000) -> Usage:
    tally = Tally()
    for snapshot in snapshots:
        tally.replied(Completion("", "", "stop", snapshot, tokens_in, 0))
    return tally.usage(asked)


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        (KNOWN, (2.5, 10.0)),
        ("gpt-4o-2024-05-13", (5.0, 15.0)),
        ("gpt-4.1-mini-2025-04-14", (0.4, 1.6)),
        ("o4-mini-2025-04-16", (1.1, 4.4)),
        ("gemini-2.5-flash", (0.3, 2.5)),
        ("gemini-2.5-pro", (1.25, 10.0)),
    ],
)
def test_list_prices_of_dated_snapshots(model: str, usd: tuple[float, float]) -> None:
    assert usd_per_million(model) == pytest.approx(usd)
    assert price_usd(model, 900, 100) == pytest.approx((900 * usd[0] + 100 * usd[1]) / 1e6)


def test_every_model_that_is_asked_by_an_api_and_still_served_has_a_price() -> None:
    asked = [known.model for known in known_models().models if known.availability == "api"]
    assert "gemini-3.5-flash" in asked
    assert not [model for model in asked if price_usd(model, 0, 0) is None]


@pytest.mark.parametrize(
    "model", ["", "my-model", "judge-model-2026-01-01", "my-gpt-4o", "Qwen/Qwen2.5-VL-7B-Instruct", "gpt-9"]
)
def test_a_model_of_ones_own_has_no_price(model: str) -> None:
    assert price_usd(model, 900, 100) is None and usd_per_million(model) is None


def test_a_price_is_told_only_where_it_is_known() -> None:
    assert used("my-model").usd is None and used("my-model", "another").usd is None
    assert used(KNOWN).usd == 0.0 and used(KNOWN, KNOWN).usd == 2.5
    assert used("my-deployment", KNOWN, KNOWN).usd == 5.0
    assert used(KNOWN, KNOWN, "another").usd is None


def test_the_prices_that_were_used_are_recorded() -> None:
    found = used("my-deployment", KNOWN, "another")
    assert found.prices == {KNOWN: pytest.approx((2.5, 10.0))}
    assert found.prices_of == prices_of() and found.prices_of.startswith("genai-prices ")


def test_short_prompts_are_not_priced_as_one_long_one() -> None:
    """Gemini 2.5 Pro costs more from 200,000 tokens a prompt on."""
    assert used("m", *["gemini-2.5-pro"] * 10, tokens_in=100_000).usd == pytest.approx(1.25)
    assert used("m", "gemini-2.5-pro").usd == pytest.approx(2.5)
