"""Google's Gemini models, asked with 8 images; replies and errors are read here, too."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pydantic import Field, model_validator

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
from egost.tasks.chat.http import Http, Response, shown
from egost.tasks.chat.reading import Count, Said, read_body
from egost.tasks.keys import OTHER_KEY, check_url, read_key

GEMINI_URL = "https://generativelanguage.googleapis.com"
API_VERSION = "v1beta"
"""The version of the interface that has thinking budgets."""

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
        self._settings, self._place = settings, place
        self.hidden_tokens = settings.thoughts
        self.wording = Wording(
            url=place.url,
            who=f"{place.model} at {place.url}",
            kept="What was answered is kept",
            remedy="Choose another by model= in --model_args.",
            stopped=AdapterError,
        )
        self._path = (
            f"/{API_VERSION}/models/{quote(place.model.removeprefix('models/'), safe='')}:generateContent"
        )
        self._http = Http(place.url, timeout_s, {"x-goog-api-key": key or "no-key"})

    async def call(self, ask: Ask) -> Called:
        body = await asyncio.to_thread(self._body, ask)
        response = await self._http.send("POST", self._path, [body])
        if response.status != 200:
            raise Faulted(_fault_of_status(response, self._place))
        return read_reply(response.body)

    async def close(self) -> None:
        await self._http.close()

    def _body(self, ask: Ask) -> bytes:
        images = [
            {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(png).decode()}}
            for png in (png_frames(ask.clip) if ask.clip else ())
        ]
        content = {"role": "user", "parts": [*images, {"text": ask.prompt}]}
        return json.dumps({"contents": [content], "generationConfig": self._config(ask.arguments)}).encode()

    def _config(self, arguments: GenerationArguments) -> dict[str, Any]:
        settings, level = self._settings, self._settings.thinking_level
        thinking = {"thinkingBudget": settings.thinking_budget, "thinkingLevel": level and level.upper()}
        chosen = {
            "maxOutputTokens": arguments.max_new_tokens + settings.thoughts,
            "temperature": arguments.temperature,
            "topP": arguments.top_p,
            "topK": arguments.top_k,
            "seed": arguments.seed,
            "stopSequences": list(arguments.stop) or None,
            "thinkingConfig": _given(thinking) or None,
        }
        return _given(chosen)


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


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


class _Given(Said):
    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, content: Any) -> Any:
        return _given(content) if isinstance(content, dict) else content


class _Part(_Given):
    text: str = ""
    thought: bool = False


class _Content(_Given):
    parts: list[_Part] = Field(default=[])


class _Candidate(_Given):
    content: _Content | None = None
    finish: str = Field(default="", alias="finishReason")
    message: str = Field(default="", alias="finishMessage")


class _Feedback(_Given):
    reason: str = Field(default="", alias="blockReason")
    message: str = Field(default="", alias="blockReasonMessage")


class _Detail(_Given):
    modality: str = ""
    tokens: Count = Field(default=0, alias="tokenCount")


class _Usage(_Given):
    prompt: Count = Field(default=0, alias="promptTokenCount")
    candidates: Count = Field(default=0, alias="candidatesTokenCount")
    thoughts: Count = Field(default=0, alias="thoughtsTokenCount")
    details: list[_Detail] = Field(default=[], alias="promptTokensDetails")


class _Body(_Given):
    candidates: list[_Candidate] = Field(default=[])
    feedback: _Feedback = Field(default=_Feedback(), alias="promptFeedback")
    usage: _Usage = Field(default=_Usage(), alias="usageMetadata")
    model: str = Field(default="", alias="modelVersion")


def read_reply(body: bytes) -> Called:
    """What a reply brought. Raises Faulted (`broken_body`) where it is none of Gemini's."""
    content = read_body(body, _Body, "reply of Gemini's")
    candidate, feedback, usage = next(iter(content.candidates), None), content.feedback, content.usage
    if candidate is None and not feedback.reason:
        raise Faulted(EMPTY_BODY)
    outcome: Reply | Failure | None
    if candidate is None:
        outcome = Failure("refused", f"the prompt was blocked: {feedback.reason} {feedback.message}".strip())
    else:
        finish = candidate.finish
        parts = candidate.content.parts if candidate.content else ()
        text = "".join(part.text for part in parts if not part.thought)
        refusal = f"the reply was blocked: {finish} {candidate.message}".strip()
        outcome = bare_failure(text, _FINISHED.get(finish, finish), refusal if finish in _BLOCKED else "")
        if outcome is None:
            outcome = Reply(
                text=text,
                finish_reason=_FINISHED.get(finish, finish.lower()),
                prompt_tokens=usage.prompt or None,
                completion_tokens=usage.candidates + usage.thoughts or None,
                video_tokens=sum(d.tokens for d in usage.details if d.modality == "IMAGE") or None,
                snapshot=content.model or None,
            )
    return Called(outcome, content.model, usage.prompt, usage.candidates + usage.thoughts)


def _fault_of_status(response: Response, place: Place) -> Fault:
    status, error, message = response.status, response.error, response.message
    said = f"HTTP {status} {shown(error.get('status') or '')}: {shown(message)}"
    details = str(error.get("details"))
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
        return Fault("again", "rate_limited", said, wait_s=_wait_s(response))
    if status >= 500 or status in (408, 409, 499):
        return Fault("again", "server_error", said, wait_s=_wait_s(response), alive=status < 500)
    if status == 413 or _TOO_LONG.search(message):
        return Fault("unscored", "too_long", said)
    if status == 400 and error.get("status") != "FAILED_PRECONDITION":
        return Fault("unscored", "bad_request", said)
    return Fault("stop", "refused", f"{said}. {place.url} does not take the request for '{place.model}'.")


def _wait_s(response: Response) -> float | None:
    """How long the API asks to wait: by its headers, or by the `RetryInfo` in the body of its error."""
    if response.wait_s is not None:
        return response.wait_s
    listed = response.error.get("details")
    for detail in listed if isinstance(listed, list) else ():
        delay = _SECONDS.fullmatch(str(detail.get("retryDelay"))) if isinstance(detail, dict) else None
        if delay:
            return float(delay[1])
    return None
