"""Google's Gemini models, asked by the google-genai client with 8 images."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx

from egost.model_adapters.api.api_engine import (
    DEFAULT_PACING,
    OTHER_KEY,
    ApiEngine,
    Called,
    check_url,
    pacing_of,
)
from egost.model_adapters.api.api_frames import FRAME_SETTINGS, check_chosen_protocol, png_frames
from egost.model_adapters.api.api_spending import CallBound, Spending
from egost.model_adapters.api.gemini_replies import EMPTY_BODY, Place, gemini_fault, read_reply
from egost.model_adapters.engine import AdapterError, Ask, EngineIdentity, GenerationArguments
from egost.tasks.chat.calls import Faulted, Wording
from egost.tasks.chat.endpoint import is_this_machine
from egost.tasks.chat.reading import redacted
from egost.tasks.clips.protocols import N_FRAMES

if TYPE_CHECKING:
    from google.genai import types

GEMINI_URL = "https://generativelanguage.googleapis.com"
API_VERSION = "v1beta"
"""The version of the interface that has thinking budgets; the client's default differs between its versions."""

KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")

THINKING_TOKENS = 24_576
"""Tokens for thoughts, added to max_new_tokens where the model decides how long it thinks: Gemini counts both
against one limit. It is the largest budget that Gemini 2.5 Flash takes."""

MOST_FRAME_TOKENS = 1120
"""The most that an image is counted for: by Gemini 3; its forerunners count 258 up to 384 x 384 pixels."""

MOST_STOPS = 5
"""Texts that the interface takes as stop sequences."""

_PLAIN = re.compile(r"gemini-(1\.|2\.0)(?!.*thinking)")
_NUMBERED = re.compile(r"-(\d{3}|\d{2}-\d{2}|\d{2}-\d{4})$")

_BODY_ERRORS = (ValueError, TypeError, AttributeError, LookupError)
"""What the client raises, according to where it stumbles, on a body that is not what it expects."""


@dataclass(frozen=True)
class GeminiSettings:
    """How the model is asked, as far as it changes replies.

    thinking_budget: tokens for thoughts, 0 for none, -1 as many as the model likes, None as the API has it.
    thinking_level: a word of the API's, for example `low` (Gemini 3); None leaves it to the API.
    thoughts: tokens for thoughts, added to max_new_tokens.
    """

    thinking_budget: int | None
    thinking_level: str | None
    thoughts: int


def open_gemini(
    model: str,
    base_url: str | None = None,
    thinking_budget: int | None = None,
    thinking_level: str | None = None,
    thinking_room: int = THINKING_TOKENS,
    max_usd: float | None = None,
    concurrency: int = DEFAULT_PACING.concurrency,
    timeout_s: float = DEFAULT_PACING.timeout_s,
) -> ApiEngine:
    """An engine behind Google's Gemini interface.

    model: its name, for example `gemini-2.5-flash`. base_url: of another server that speaks the interface.
    thinking_budget, thinking_level: see `GeminiSettings`. thinking_room: tokens for thoughts where the model
    decides itself. concurrency: most calls at once; timeout_s: seconds for one of them.
    max_usd: no call is made that could bring the cost of this process above so many US dollars.
    The key is taken from GEMINI_API_KEY or GOOGLE_API_KEY, for another server from EGOST_API_KEY.

    Raises AdapterError for settings, a model or a key that cannot work, before anything is spent, and
    SettingError for an unknown EGOST_PROTOCOL.
    """
    _need_client()
    check_chosen_protocol()
    pacing = pacing_of(concurrency, timeout_s)
    plain = _PLAIN.match(model) is not None
    if plain and (thinking_budget or thinking_level):
        raise AdapterError(
            f"'{model}' does not think before it replies: leave thinking_budget and thinking_level out."
        )
    if thinking_budget is not None and thinking_level is not None:
        raise AdapterError("thinking_budget and thinking_level exclude each other; give one of them.")
    free = thinking_budget is None or thinking_budget < 0
    thoughts = thinking_room if free else thinking_budget or 0
    settings = GeminiSettings(thinking_budget, thinking_level, 0 if plain else thoughts)
    url = (base_url or GEMINI_URL).rstrip("/")
    check_url(url, OTHER_KEY)
    key_name, key = _key(model, url)
    numbered = _NUMBERED.search(model)
    asked_with = {
        "url": url,
        "thinking_budget": thinking_budget,
        "thinking_level": thinking_level,
        "thinking_room": settings.thoughts,
    }
    return ApiEngine(
        identity=EngineIdentity(
            "gemini", model, numbered[1] if numbered else None, {**FRAME_SETTINGS, **asked_with}
        ),
        open_api=lambda seconds: _GeminiApi(Place(model, url, key_name), key, settings, seconds),
        wrong=_wrong,
        pacing=pacing,
        spending=Spending(model, max_usd),
    )


def _wrong(arguments: GenerationArguments) -> str:
    """What the interface has no parameter for; empty where there is nothing."""
    if len(arguments.stop) > MOST_STOPS:
        return f"{len(arguments.stop)} texts in until; the interface takes {MOST_STOPS}"
    return ""


class _GeminiApi:
    """An `Api` of the Gemini interface."""

    def __init__(self, place: Place, key: str | None, settings: GeminiSettings, timeout_s: float) -> None:
        from google import genai
        from google.genai import types

        self._settings, self._timeout_s = settings, timeout_s
        self._place, self._key = place, key
        self.wording = Wording(
            url=place.url,
            who=f"{place.model} at {place.url}",
            kept="What was answered is kept",
            remedy="Choose another by model= in --model_args.",
            stopped=AdapterError,
        )
        # A client of our own, since the default one calls again by itself. A proxy of the environment leads to
        # the world, never to a server on this machine.
        self._http = httpx.AsyncClient(timeout=timeout_s, trust_env=not is_this_machine(place.url))
        self._client = genai.Client(
            vertexai=False,
            api_key=key or "no-key",
            http_options=types.HttpOptions(
                base_url=place.url, api_version=API_VERSION, httpx_async_client=self._http
            ),
        )

    def bound(self, ask: Ask) -> CallBound:
        return CallBound(
            frame_tokens=MOST_FRAME_TOKENS * N_FRAMES if ask.clip else 0,
            text_tokens=len(ask.prompt.encode("utf-8", "replace")),
            reply_tokens=ask.arguments.max_new_tokens + self._settings.thoughts,
        )

    async def call(self, ask: Ask) -> Called:
        from google.genai import errors

        content, config = await asyncio.to_thread(_content, ask), self._config(ask.arguments)
        try:
            response = await asyncio.wait_for(
                self._client.aio.models.generate_content(
                    model=self._place.model, contents=content, config=config
                ),
                self._timeout_s,
            )
        except (TimeoutError, errors.APIError, httpx.HTTPError, *_BODY_ERRORS) as error:
            # The exception holds the request with its key: it ends here.
            fault = gemini_fault(error, self._place)
        else:
            if called := read_reply(response, lambda text: redacted(text, self._key)):
                return called
            fault = EMPTY_BODY
        raise Faulted(replace(fault, text=redacted(fault.text, self._key)))

    async def close(self) -> None:
        await self._http.aclose()

    def _config(self, arguments: GenerationArguments) -> types.GenerateContentConfig:
        from google.genai import types

        settings = self._settings
        thinking = None
        if settings.thinking_budget is not None or settings.thinking_level is not None:
            level = settings.thinking_level
            thinking = types.ThinkingConfig(
                thinking_budget=settings.thinking_budget,
                thinking_level=types.ThinkingLevel(level) if level else None,
            )
        return types.GenerateContentConfig(
            max_output_tokens=arguments.max_new_tokens + settings.thoughts,
            temperature=arguments.temperature,
            top_p=arguments.top_p,
            top_k=arguments.top_k,
            seed=arguments.seed,
            stop_sequences=list(arguments.stop) or None,
            thinking_config=thinking,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )


def _content(ask: Ask) -> types.Content:
    from google.genai import types

    images = [
        types.Part.from_bytes(data=png, mime_type="image/png")
        for png in (png_frames(ask.clip) if ask.clip else ())
    ]
    return types.Content(role="user", parts=[*images, types.Part.from_text(text=ask.prompt)])


def _need_client() -> None:
    try:
        from google import genai  # noqa: F401
    except ImportError as error:
        raise AdapterError(
            f"Gemini is asked by the package google-genai, which cannot be imported ({error}). Install it: pip install "
            "'egost[gemini]'"
        ) from error


def _key(model: str, url: str) -> tuple[str, str | None]:
    """The environment variable that holds the key for a URL, and the key; None where the server may want none."""
    names = KEYS if url == GEMINI_URL else (OTHER_KEY,)
    name = next((name for name in names if os.environ.get(name, "").strip()), names[0])
    key = os.environ.get(name, "").strip() or None
    if key is None and url == GEMINI_URL:
        raise AdapterError(f"'{model}' needs a key: set {' or '.join(KEYS)}.")
    if key and not (key.isascii() and key.isprintable()):
        raise AdapterError(
            f"the key in {name} holds characters that no key has (only printable ASCII can be sent): copy it again."
        )
    return name, key
