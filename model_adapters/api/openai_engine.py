"""GPT-4o, the o-series and any model behind the chat-completions interface, asked with 8 images."""

from __future__ import annotations

import asyncio
import base64
import os
import re
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

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
from egost.tasks.chat.calls import Faulted
from egost.tasks.chat.client import ChatClient, Role
from egost.tasks.chat.endpoint import OPENAI_URL, Endpoint, find_key
from egost.tasks.chat.reading import Completion
from egost.tasks.errors import SettingError
from egost.tasks.keys import OTHER_KEY, check_url

Detail = Literal["low", "high", "auto"]

REASONING_TOKENS = 25_000
"""Tokens for hidden reasoning, added to max_new_tokens: OpenAI advises to begin with so many."""

MOST_FRAME_TOKENS = 8500
"""The most that an image of 224 x 224 is counted for: by GPT-4o mini in high detail (2833 and 5667 tokens)."""

MOST_STOPS = 4
"""Texts that the interface takes as `stop`."""

_TEXT_ONLY = re.compile(r"o3-mini|o1-mini|o1-preview")
_REASONING = re.compile(r"o\d|gpt-5(?!.*chat)")
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True)
class OpenAISettings:
    """How the model is asked, as far as it changes replies.

    detail: as which size the API looks at an image; 224 x 224 pixels fit the one tile of `low` unscaled.
    reasoning: whether it reasons before it replies, takes no temperature and needs tokens for that.
    reasoning_effort: a word of the API's, for example `low`; None leaves it to the API.
    reasoning_room: tokens for hidden reasoning, added to max_new_tokens.
    draw: tells repeated runs of a reasoning model apart, whose replies are drawn by the API; not sent.
    """

    detail: Detail
    reasoning: bool
    reasoning_effort: str | None
    reasoning_room: int
    draw: int


def open_openai(
    model: str,
    base_url: str | None = None,
    azure_endpoint: str | None = None,
    detail: str = "low",
    reasoning: bool | None = None,
    reasoning_effort: str | None = None,
    reasoning_room: int = REASONING_TOKENS,
    max_usd: float | None = None,
    concurrency: int = DEFAULT_PACING.concurrency,
    timeout_s: float = DEFAULT_PACING.timeout_s,
    seed: int = 0,
) -> ApiEngine:
    """An engine behind the chat-completions interface.

    model: name of the model, or Azure's deployment. base_url: of any server that speaks the interface, by
    default OpenAI's. azure_endpoint: of Azure OpenAI. reasoning: None goes by the model's name; the other settings:
    see `OpenAISettings`. concurrency: most calls at once; timeout_s: seconds for one of them.
    max_usd: no call is made that could bring the cost of this process above so many US dollars.
    The key is taken from OPENAI_API_KEY, AZURE_OPENAI_API_KEY, or for any other server EGOST_API_KEY.

    Raises AdapterError for settings, a model or a key that cannot work, before anything is spent, and
    SettingError for an unknown EGOST_PROTOCOL.
    """
    check_chosen_protocol()
    pacing = pacing_of(concurrency, timeout_s)
    if _TEXT_ONLY.match(model):
        raise AdapterError(
            f"'{model}' takes no images by its public API, so it cannot be shown the frames. Choose a model that "
            "does, for example gpt-4o-2024-08-06 or o4-mini-2025-04-16."
        )
    reasons = bool(_REASONING.match(model)) if reasoning is None else reasoning
    if reasoning_effort is not None and not reasons:
        raise AdapterError(
            f"reasoning_effort={reasoning_effort} is for models that reason, and '{model}' is taken for one that "
            "does not. Leave it out, or add reasoning=true."
        )
    settings = OpenAISettings(_detail(detail), reasons, reasoning_effort, reasoning_room, seed)
    endpoint = _endpoint(model, base_url, azure_endpoint)
    _check_key(endpoint)
    role = Role(
        f"{model} at {endpoint.url}", "What was answered is kept", "model= in --model_args", AdapterError
    )
    return ApiEngine(
        identity=_identity(endpoint, settings),
        open_api=lambda seconds: _ChatApi(endpoint, role, settings, seconds),
        wrong=lambda arguments: _wrong(arguments, settings),
        pacing=pacing,
        spending=Spending(model, max_usd),
    )


def _identity(endpoint: Endpoint, of: OpenAISettings) -> EngineIdentity:
    settings: dict[str, str | int | float | bool | None] = {
        **frame_settings(),
        "url": endpoint.url,
        "detail": of.detail,
        "reasoning": of.reasoning,
    }
    if of.reasoning:
        settings |= {
            "reasoning_effort": of.reasoning_effort,
            "reasoning_room": of.reasoning_room,
            "draw": of.draw,
        }
    dated = _DATED.search(endpoint.model)
    return EngineIdentity(endpoint.kind, endpoint.model, dated[0] if dated else None, settings)


def _wrong(arguments: GenerationArguments, settings: OpenAISettings) -> str:
    """What the interface has no parameter for; empty where there is nothing."""
    if arguments.top_k is not None:
        return "top_k, which the chat-completions interface does not have"
    if len(arguments.stop) > MOST_STOPS:
        return f"{len(arguments.stop)} texts in until; the interface takes {MOST_STOPS}"
    if settings.reasoning and (arguments.stop or not arguments.greedy):
        return (
            "temperature or until, which a model that reasons does not take (reasoning=false if it does not)"
        )
    return ""


class _ChatApi:
    """An `Api` of the chat-completions interface."""

    frame_tokens = MOST_FRAME_TOKENS

    def __init__(self, endpoint: Endpoint, role: Role, settings: OpenAISettings, timeout_s: float) -> None:
        self._settings = settings
        self._client = ChatClient(endpoint, role, timeout_s)
        self.wording = replace(self._client.wording, who=role.who)
        self.hidden_tokens = settings.reasoning_room if settings.reasoning else 0

    async def call(self, ask: Ask) -> Called:
        message = await asyncio.to_thread(self._message, ask)
        try:
            return _called(await self._client.call([message], self._parameters(ask)))
        except Faulted as error:
            fault = error.fault
        if fault.action == "without":
            hint = (
                "it is too old for this adapter; ask it by --model egost_server if vLLM serves it"
                if fault.parameter == "max_completion_tokens"
                else "set reasoning=true in --model_args if it reasons before it replies, reasoning=false if not"
            )
            fault = replace(
                fault, action="stop", text=f"{fault.text}. It does not take {fault.parameter}: {hint}."
            )
        raise Faulted(fault)

    async def close(self) -> None:
        await self._client.close()

    def _parameters(self, ask: Ask) -> dict[str, Any]:
        arguments, settings = ask.arguments, self._settings
        parameters: dict[str, Any] = {"max_completion_tokens": arguments.max_new_tokens + self.hidden_tokens}
        if settings.reasoning:
            chosen: dict[str, Any] = {"reasoning_effort": settings.reasoning_effort}
        else:
            chosen = {
                "temperature": arguments.temperature,
                "top_p": arguments.top_p,
                "seed": arguments.seed,
                "stop": list(arguments.stop) or None,
            }
        return parameters | {name: value for name, value in chosen.items() if value is not None}

    def _message(self, ask: Ask) -> dict[str, Any]:
        images = [
            {
                "type": "image_url",
                "image_url": {
                    "url": f"data:image/png;base64,{base64.b64encode(png).decode()}",
                    "detail": self._settings.detail,
                },
            }
            for png in (png_frames(ask.clip) if ask.clip else ())
        ]
        return {"role": "user", "content": [*images, {"type": "text", "text": ask.prompt}]}


def _called(completion: Completion) -> Called:
    refusal = completion.refusal
    if not refusal and completion.finish == "content_filter":
        refusal = completion.text or "the content filter took the reply"
    outcome: Reply | Failure | None = bare_failure(completion.text, completion.finish, refusal)
    if outcome is None:
        outcome = Reply(
            text=completion.text,
            finish_reason=completion.finish,
            reasoning=completion.reasoning,
            prompt_tokens=completion.tokens_in or None,
            completion_tokens=completion.tokens_out or None,
            snapshot="+".join(filter(None, (completion.snapshot, completion.fingerprint))) or None,
        )
    return Called(outcome, completion.snapshot, completion.tokens_in, completion.tokens_out)


def _detail(given: str) -> Detail:
    if given not in get_args(Detail):
        raise AdapterError(f"detail={given} is none of {', '.join(get_args(Detail))}. Fix --model_args.")
    return cast(Detail, given)


def _endpoint(model: str, base_url: str | None, azure_endpoint: str | None) -> Endpoint:
    if base_url and azure_endpoint:
        raise AdapterError("base_url and azure_endpoint name two servers; give one of them in --model_args.")
    url = (azure_endpoint or base_url or OPENAI_URL).rstrip("/")
    check_url(url, "--model_args", "AZURE_OPENAI_API_KEY" if azure_endpoint else OTHER_KEY, AdapterError)
    return Endpoint("azure" if azure_endpoint else "openai", model, url, other_key=OTHER_KEY)


def _check_key(endpoint: Endpoint) -> None:
    name = endpoint.key_name
    if endpoint.needs_key and not os.environ.get(name, "").strip():
        raise AdapterError(
            f"'{endpoint.model}' at {endpoint.url} needs a key: set {name}. base_url=URL in --model_args names a "
            "server of your own."
        )
    try:
        find_key(endpoint)
    except SettingError as error:
        raise AdapterError(str(error)) from error
