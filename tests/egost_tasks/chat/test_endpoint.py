"""The names and keys of language models behind a server."""

from __future__ import annotations

import pytest
from loguru import logger

from egost.tasks.chat.endpoint import find_key, parse_endpoint
from egost.tasks.errors import SettingError


@pytest.mark.parametrize(
    ("spec", "model", "url", "label"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", "https://api.openai.com/v1", "gpt-4o-2024-08-06"),
        ("gpt-4.1-mini", "gpt-4.1-mini", "https://api.openai.com/v1", "gpt-4.1-mini"),
        (
            "openai:Org/M-7B@http://h:8000/v1/",
            "Org/M-7B",
            "http://h:8000/v1",
            "openai:Org/M-7B@http://h:8000/v1",
        ),
        (
            "azure:d@https://x.openai.azure.com",
            "d",
            "https://x.openai.azure.com",
            "azure:d@https://x.openai.azure.com",
        ),
    ],
)
def test_the_forms_of_a_models_name(spec: str, model: str, url: str, label: str) -> None:
    endpoint = parse_endpoint(spec)
    assert (endpoint.model, endpoint.url, endpoint.label) == (model, url, label)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gpt-", "No model"),
        ("openai:model", "No model"),
        ("openai:m@ftp://host", "No model"),
        ("openai:m@http://host:port/v1", "is no URL"),
        ("openai:m@http://me:secret-word@host/v1", "carries a user name, password or query"),
        ("openai:m@http://host/v1?key=secret-word", "put the key into EGOST_JUDGE_KEY"),
        ("openai:m@http://me:secret-word@host:port/v1", "carries a user name"),
        ("openai:m@ftp://me:secret-word@host", "carries a user name"),
        ("openai:m@http://me:secret-word/x@host/v1", "carries a user name"),
        ("openai:m@http://[me:secret-word@host/v1", "carries a user name"),
        ("openai:m@http://host:port/v1?key=secret-word", "carries a user name"),
        ("openai:m@me:secret-word@host/v1", "carries a user name"),
        ("azure:m@https://me:secret-word@host", "put the key into AZURE_OPENAI_API_KEY"),
    ],
)
def test_a_name_of_another_form_is_refused(spec: str, message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        parse_endpoint(spec)
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("gpt-4o", "OPENAI_API_KEY"),
        ("openai:m@https://API.openai.com/v1/", "OPENAI_API_KEY"),
        ("openai:m@http://api.openai.com/v1", "EGOST_JUDGE_KEY"),
        ("openai:m@https://api.openai.com.example.org/v1", "EGOST_JUDGE_KEY"),
        ("openai:m@http://localhost:8000/v1", "EGOST_JUDGE_KEY"),
        ("azure:d@https://x.openai.azure.com", "AZURE_OPENAI_API_KEY"),
    ],
)
def test_each_key_goes_to_its_own_servers(monkeypatch: pytest.MonkeyPatch, spec: str, name: str) -> None:
    for each in ("OPENAI_API_KEY", "EGOST_JUDGE_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.setenv(each, f"value-of-{each}")
    assert find_key(parse_endpoint(spec)) == f"value-of-{name}"


@pytest.mark.parametrize("key", ["k\u00e9y-secret", "key\nsecret", "\u201ckey-secret\u201d"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(SettingError, match=r"OPENAI_API_KEY holds characters") as caught:
        find_key(parse_endpoint("gpt-4o"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://localhost:8000/v1", "EGOST_JUDGE=openai:gpt-4o-2024-08-06@http://localhost:8000/v1"),
        ("https://me:word@proxy/v1", "EGOST_JUDGE=openai:gpt-4o-2024-08-06@URL"),
        ("https://api.openai.com/v1", None),
        (" ", None),
    ],
)
def test_a_base_url_that_is_not_read_is_named(
    monkeypatch: pytest.MonkeyPatch, url: str, said: str | None
) -> None:
    heard: list[str] = []
    listening = logger.add(heard.append, format="{message}")
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", "value")
    find_key(parse_endpoint("openai:m@http://localhost:1/v1"))
    assert not heard
    find_key(parse_endpoint("gpt-4o"))
    find_key(parse_endpoint("gpt-4o"))
    logger.remove(listening)
    assert len(heard) == (said is not None)
    if said:
        assert "OPENAI_BASE_URL is not read: gpt-4o-2024-08-06 is asked at api.openai.com" in heard[0]
        assert said in heard[0] and "word" not in heard[0]
