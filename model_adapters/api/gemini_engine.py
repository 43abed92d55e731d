"""Google's Gemini models, asked by the google-genai client with 8 images; replies and errors are read here, too."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from egost.model_adapters.api.api_engine import (
    DEFAULT_PACING,
    ApiEngine,
    Called,
    Spending,
    bare_failure,
    check_chosen_protocol,
    frame_settings,
    pacing_of,
    png_frames,
)
from egost.model_adapters.engine import AdapterError, Ask, EngineIdentity, Failure, GenerationArguments, Reply
from egost.tasks.chat.calls import Fault, Faulted, Wording
from egost.tasks.chat.http import Http, retry_after, shown
from egost.tasks.chat.reading import MOST_TOKENS
from egost.tasks.errors import install_command
from egost.tasks.keys import OTHER_KEY, check_url, read_key

if TYPE_CHECKING:
    from google.genai import errors, types


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

_BODY_ERRORS = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
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
    check_url(url, "--model_args", OTHER_KEY, AdapterError)
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
            "gemini", model, numbered[1] if numbered else None, {**frame_settings(), **asked_with}
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

    frame_tokens = MOST_FRAME_TOKENS

    def __init__(self, place: Place, key: str | None, settings: GeminiSettings, timeout_s: float) -> None:
        from google import genai
        from google.genai import types

        self._settings, self._timeout_s = settings, timeout_s
        self._place = place
        self.hidden_tokens = settings.thoughts
        self.wording = Wording(
            url=place.url,
            who=f"{place.model} at {place.url}",
            kept="What was answered is kept",
            remedy="Choose another by model= in --model_args.",
            stopped=AdapterError,
        )
        # A client of our own, also since the default one calls again by itself.
        self._http = Http(place.url, timeout_s)
        self._client = genai.Client(
            vertexai=False,
            api_key=key or "no-key",
            http_options=types.HttpOptions(
                base_url=place.url, api_version=API_VERSION, httpx_async_client=self._http
            ),
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
            called = read_reply(response)
        except (TimeoutError, errors.APIError, httpx.HTTPError, *_BODY_ERRORS) as error:
            # The exception holds the request with its key: it ends here.
            fault = gemini_fault(error, self._place)
        else:
            if called:
                return called
            fault = EMPTY_BODY
        raise Faulted(fault)

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
            f"Gemini is asked by the package google-genai, which cannot be imported ({error}). Install it: "
            f"{install_command('gemini')}"
        ) from error


def _key(model: str, url: str) -> tuple[str, str | None]:
    """The environment variable that holds the key for a URL, and the key; None where the server may want none."""
    names = KEYS if url == GEMINI_URL else (OTHER_KEY,)
    name = next((name for name in names if os.environ.get(name, "").strip()), names[0])
    key = read_key(name, AdapterError)
    if key is None and url == GEMINI_URL:
        raise AdapterError(f"'{model}' needs a key: set {' or '.join(KEYS)}.")
    return name, key


EMPTY_BODY = Fault("again", "broken_body", "the body of the reply holds no candidate", alive=False)

_BLOCKED = (
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
)
"""Finish reasons with which a filter took the reply, or the rest of it, away."""

_FINISHED = {"STOP": "stop", "MAX_TOKENS": "length"}
_TOO_LONG = re.compile(r"exceeds the maximum number of tokens|payload size exceeds", re.IGNORECASE)
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")


@dataclass(frozen=True)
class Place:
    """Who is asked where: model, base URL, and the environment variable that holds the key."""

    model: str
    url: str
    key_name: str


def gemini_fault(error: Exception, place: Place) -> Fault:
    """What an exception of a call means."""
    from google.genai import errors

    if isinstance(error, errors.APIError):
        return _fault_of_status(error, place)
    if isinstance(error, (asyncio.TimeoutError, httpx.TimeoutException)):
        return Fault("again", "timeout", "no complete reply in time", alive=False)
    if isinstance(error, httpx.HTTPError):
        return Fault(
            "again", "connection", f"connection failed: {shown(error) or type(error).__name__}", alive=False
        )
    # Neither the client's JSON errors nor pydantic's say more than this, and they repeat the body.
    return Fault("again", "broken_body", "the body of the reply is no reply of Gemini's", alive=False)


def read_reply(response: types.GenerateContentResponse) -> Called | None:
    """What a response brought; None where it holds neither a candidate nor a reason why not.

    Raises ValueError where it counts tokens that cannot be.
    """
    candidate = next(iter(response.candidates or ()), None)
    feedback = response.prompt_feedback
    if candidate is None and not (feedback and feedback.block_reason):
        return None
    usage = response.usage_metadata
    tokens_in = (usage and usage.prompt_token_count) or 0
    tokens_out = ((usage and usage.candidates_token_count) or 0) + (
        (usage and usage.thoughts_token_count) or 0
    )
    if not (0 <= tokens_in <= MOST_TOKENS and 0 <= tokens_out <= MOST_TOKENS):
        raise ValueError(f"it counts {tokens_in} tokens in and {tokens_out} out")
    snapshot = response.model_version or ""
    outcome: Reply | Failure | None
    if candidate is None:
        outcome = Failure("refused", f"the prompt was blocked: {_blocked(feedback)}")
    else:
        finish = candidate.finish_reason.value if candidate.finish_reason else ""
        parts = (candidate.content and candidate.content.parts) or ()
        text = "".join(part.text for part in parts if part.text and not part.thought)
        refusal = f"the reply was blocked: {finish} {candidate.finish_message or ''}".strip()
        outcome = bare_failure(text, _FINISHED.get(finish, finish), refusal if finish in _BLOCKED else "")
        if outcome is None:
            outcome = Reply(
                text=text,
                finish_reason=_FINISHED.get(finish, finish.lower()),
                prompt_tokens=tokens_in or None,
                completion_tokens=tokens_out or None,
                video_tokens=_image_tokens(usage),
                snapshot=snapshot or None,
            )
    return Called(outcome, snapshot, tokens_in, tokens_out)


def _blocked(feedback: types.GenerateContentResponsePromptFeedback | None) -> str:
    if feedback is None or feedback.block_reason is None:
        return "no reason given"
    return f"{feedback.block_reason.value} {feedback.block_reason_message or ''}".strip()


def _image_tokens(usage: types.GenerateContentResponseUsageMetadata | None) -> int | None:
    counts = [
        detail.token_count or 0
        for detail in (usage and usage.prompt_tokens_details) or ()
        if detail.modality and detail.modality.value == "IMAGE"
    ]
    return sum(counts) if counts else None


def _fault_of_status(error: errors.APIError, place: Place) -> Fault:
    status, message = error.code, str(error.message or "")
    said = f"HTTP {status} {shown(error.status or '')}: {shown(message)}"
    details = str(error.details)
    if status == 401 or "API_KEY_INVALID" in details or "API key not valid" in message:
        return Fault(
            "stop",
            "refused",
            f"{said}. The key was not accepted: set {place.key_name} to a valid key for {place.url}.",
        )
    if status == 403:
        remedy = f"The key in {place.key_name} may not use {place.model}: allow it, or choose another model."
        return Fault("stop", "refused", f"{said}. {remedy}")
    if status == 404:
        remedy = f"There is no model '{place.model}' at {place.url}; it may be retired. Choose another by model= in "
        return Fault("stop", "refused", f"{said}. {remedy}--model_args.")
    if status == 429 and ("PerDay" in details or "limit: 0" in message):
        return Fault(
            "stop", "refused", f"{said}. The quota of {place.key_name} is used up: wait or raise it."
        )
    if status == 429:
        return Fault("again", "rate_limited", said, wait_s=_wait_s(error))
    if status >= 500 or status in (408, 409, 499):
        return Fault("again", "server_error", said, wait_s=_wait_s(error), alive=status < 500)
    if status == 413 or _TOO_LONG.search(message):
        return Fault("unscored", "too_long", said)
    if status == 400 and error.status != "FAILED_PRECONDITION":
        return Fault("unscored", "bad_request", said)
    return Fault("stop", "refused", f"{said}. {place.url} does not take the request for '{place.model}'.")


def _wait_s(error: errors.APIError) -> float | None:
    """How long the API asks to wait: by its headers, or by the `RetryInfo` in the body of its error."""
    if (headers := getattr(error.response, "headers", None)) and (wait := retry_after(headers)) is not None:
        return wait
    for detail in _error_details(error.details):
        delay = _SECONDS.fullmatch(str(detail.get("retryDelay", "")))
        if delay:
            return float(delay[1])
    return None


def _error_details(content: Any) -> list[dict[str, Any]]:
    inner = content.get("error", content) if isinstance(content, dict) else {}
    listed = inner.get("details") if isinstance(inner, dict) else None
    return [detail for detail in listed if isinstance(detail, dict)] if isinstance(listed, list) else []
