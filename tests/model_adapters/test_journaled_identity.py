"""What tells the replies of lmms-eval's own adapters apart: all of their arguments, but no secret."""

from __future__ import annotations

from typing import Any

import pytest


class Adapter:
    """As much of an adapter of lmms-eval as its identity depends on."""

    is_simple = True

    def __init__(self, model_name: str = "some-model", **rest: Any) -> None:
        pass


def settings(**given: Any) -> dict[str, Any]:
    from egost.model_adapters.lmms_engine import _identity

    return dict(_identity("adapter", Adapter(), Adapter, given).settings)


@pytest.mark.parametrize(
    "name", ["max_soft_tokens", "max_new_tokens", "token_strategy", "tokenizer", "image_token", "video_key"]
)
def test_another_value_is_another_identity(name: str) -> None:
    assert settings(**{name: "a"}) != settings(**{name: "b"})


@pytest.mark.parametrize("name", ["api_key", "API_KEY", "azure_api_key", "hf_token", "token", "password"])
def test_a_secret_is_neither_recorded_nor_shown(name: str) -> None:
    from egost.model_adapters.lmms_engine import _shown

    given = {name: "do-not-tell", "max_pixels": 5}
    assert "do-not-tell" not in str(settings(**given)) + _shown(given)
    assert settings(**given)["max_pixels"] == 5
