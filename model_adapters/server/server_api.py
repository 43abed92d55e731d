"""One server with vLLM's chat-completions interface: what it serves, and one reply at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

import httpx
from loguru import logger
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError, EngineIdentity, SampledGroup
from egost.model_adapters.families import FAMILIES, Family
from egost.tasks.chat.calls import Fault, Faulted, NoReply
from egost.tasks.chat.reading import message_text

_MARK = "egost?"

ROLLOUTS = "rollouts"
"""The setting of a server that samples for a training: its weights change after it was started."""


@dataclass(frozen=True)
class ServedModel:
    """What a server says that it serves.

    name: for requests. root: hub id or folder that the server says it loaded. version: of vLLM, None where the server
    does not say. advertised: the settings that `egost serve` advertises, None where it did not start the server.
    parents: what an adapter (LoRA) that is served is made from, by the server's names for it; empty for a model.
    """

    name: str
    root: str
    version: str | None
    advertised: Mapping[str, str] | None
    parents: tuple[str, ...] = ()


def as_served_name(settings: Mapping[str, str]) -> str:
    """The extra model name that advertises the settings; the same for the same settings."""
    return _MARK + urlencode(sorted(settings.items()))


def advertised_settings(served_names: Iterable[str]) -> dict[str, str] | None:
    """The settings that one of the names advertises; None where `egost serve` did not start the server."""
    for name in served_names:
        if name.startswith(_MARK):
            return dict(parse_qsl(name.removeprefix(_MARK)))
    return None


def own_names(served_names: Iterable[str]) -> list[str]:
    """The names by which requests ask for the model."""
    return [name for name in served_names if not name.startswith(_MARK)]


def identity_of(served: ServedModel) -> EngineIdentity:
    """What the replies of a server depend on.

    The revision and the settings are those that `egost serve` advertises. Another server advertises none: where it
    serves a folder of this disk, that folder is read; else the revision is None, and the record says `told: False`
    and, as `root`, where the server says that its weights lie. Raises AdapterError where that folder is no
    whole checkpoint, or where the server samples for a training, which changes its weights.
    """
    if ROLLOUTS in (served.advertised or {}):
        raise AdapterError(
            f"the server of {served.name} was started for the rollouts of a training, so that the weights "
            "that it holds are not known. Serve the trained checkpoint: egost serve FOLDER."
        )
    settings: dict[str, str | bool | None] = {
        **(served.advertised or {}),
        "told": served.advertised is not None,
    }
    name, revision = served.name, (served.advertised or {}).get("revision")
    settings.pop("revision", None)
    if served.advertised is None:
        # The prompt goes by the family, and that is known only where the checkpoint is on this disk.
        settings["family"] = _model_type(served.root)
        if Path(served.root).is_dir():
            checkpoint = checkpoint_identity(served.root)
            name, revision = checkpoint.name, checkpoint.revision
    if revision is None:
        settings["root"] = served.root
        logger.warning(
            f"egost: the revision of {name} that is served is not known; the record says so, and replies of "
            f"{served.root} in the journal count as its replies. Add fresh=True to --model_args if its "
            "weights have changed. A server that `egost serve MODEL` starts gives its revision."
        )
    return EngineIdentity(
        engine=f"server vllm {served.version}" if served.version else "server",
        model=name,
        revision=revision,
        settings=settings,
    )


def family_served(served: ServedModel) -> Family:
    """How the served model takes text and frames; as one video where its family is not known."""
    model_type = (served.advertised or {}).get("family") or _model_type(served.root)
    family = FAMILIES.get(model_type or "")
    if family is None:
        logger.warning(
            f"egost: the family of {served.name} is not known here; the server's chat template alone decides how the "
            "model is asked"
        )
        return Family("video")
    return family


def _model_type(root: str) -> str | None:
    try:
        return checkpoint_identity(root).model_type
    except AdapterError:
        return None


T = TypeVar("T")

KEY = "EGOST_SERVER_API_KEY"
"""Environment variable with the key of a server that wants one (`vllm serve --api-key`)."""

TRIES = 4
"""Of one request on one server that is busy or in trouble, before another server is asked."""

_CONNECT_S = 10.0
_ASK_ABOUT_S = 30.0
_LONGEST_WAIT_S = 20.0
_SHOWN = 400


@dataclass(frozen=True)
class Completion:
    """One reply as the server gave it; text is None where it gave none. Tokens as in `Reply`."""

    text: str | None
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    video_tokens: int | None


class ServerApi:
    """A server at a base URL; for use within one event loop.

    url: with or without a final `/v1`. timeout_s: for one whole reply, its time in the server's queue included.
    first_wait_s: before a request is made again that the server was too busy for; doubles each time.
    """

    def __init__(self, url: str, timeout_s: float, first_wait_s: float = 1.0) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._timeout_s, self._first_wait_s = timeout_s, first_wait_s
        key = os.environ.get(KEY)
        try:
            self._client = httpx.AsyncClient(
                base_url=self.url,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=httpx.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s)),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            )
        except httpx.InvalidURL as error:
            raise AdapterError(
                f"'{url}' is no URL of a server ({error}). Expected base_url=http://HOST:PORT."
            ) from None

    async def served(self, wanted: str | None) -> ServedModel:
        """The model that the server serves. wanted: its name; None takes the first that the server names.

        Raises NoReply where the server is not up, AdapterError where it is none of this interface, wants another
        key or does not serve the wanted model.
        """
        cards = await self._get("/v1/models")
        try:
            names = [card["id"] for card in cards["data"]]
            roots = {card["id"]: card.get("root") or card["id"] for card in cards["data"]}
            parent_of = {card["id"]: card["parent"] for card in cards["data"] if card.get("parent")}
        except (KeyError, TypeError):
            raise self._no_such_interface("/v1/models holds no list of models") from None
        own = own_names(names)
        if not own or (wanted is not None and wanted not in own):
            raise AdapterError(
                f"{self.url} does not serve {f'the model {wanted!r}' if wanted else 'any model'}; it serves: "
                f"{', '.join(own) or 'nothing'}. Fix model= in --model_args, or leave it out."
            )
        name = wanted or own[0]
        version = await self._version()
        parents = (parent_of[name], roots.get(parent_of[name], "")) if name in parent_of else ()
        return ServedModel(
            name, roots[name], version, advertised_settings(names), tuple(filter(None, parents))
        )

    async def healthy(self) -> bool:
        """Whether the server is up and its engine alive (vLLM answers 503 where the engine died)."""
        try:
            response = await self._client.get("/health", timeout=_CONNECT_S)
        except httpx.HTTPError:
            return False
        # A server of another make may have no such page, and be up all the same.
        return response.status_code < 500

    async def complete(self, body: Mapping[str, Any]) -> Completion:
        """The reply to one chat-completions request.

        Asked again while the server is busy, in trouble or unreadable, up to `TRIES` times. Raises NoReply (`timeout`,
        `connection`, `rate_limited`, `server_error`, `broken_body`) for a fault of the server or of the line, Faulted
        (`too_long`, `refused`) where this request gets none however often it is made, and AdapterError where no request
        can work (key, name of the model, no such interface).
        """
        return await self._completed(body, _read_completion)

    async def sample(self, body: Mapping[str, Any]) -> SampledGroup:
        """The completions of one chat-completions request that asks for token ids and log-probabilities.

        Asked again, and raises, as `complete`.
        """
        return await self._completed(body, _read_group)

    async def take_weights(self, checkpoint: Path, name: str) -> None:
        """Let the server go on with the weights of a checkpoint's folder, and forget what the old ones made.

        name: by which it knows them from now on.
        Raises NoReply where the server is gone, AdapterError where it takes no weights, or not these.
        """
        reload = {"method": "reload_weights", "kwargs": {"weights_path": str(checkpoint)}}
        for path, body in (
            ("/collective_rpc", reload),
            ("/reset_prefix_cache", None),
            ("/reset_encoder_cache", None),
            ("/update_weight_version", {"new_version": name}),
        ):
            response = await self._sent("POST", path, json=body)
            if response.status_code == 404:
                raise AdapterError(
                    f"{self.url} takes no weights. Start it for that: egost serve MODEL --rollouts."
                )
            refused = path == "/reset_prefix_cache" and response.text.replace(" ", "") == '{"success":false}'
            if response.status_code != 200 or refused:
                raise AdapterError(
                    f"{self.url} did not take the weights in {checkpoint}: {path} says: {_said(response)}. It must "
                    "share the disk, serve the model that is trained, and have no other client meanwhile; its log "
                    "says more."
                )

    async def weights(self) -> str:
        """The name that `take_weights` gave the weights that the server holds. Raises as `served`."""
        return str((await self._get("/weight_info"))["weight_version"])

    async def _completed(self, body: Mapping[str, Any], read: Callable[[httpx.Response], T]) -> T:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(TRIES),
            wait=wait_random_exponential(self._first_wait_s, _LONGEST_WAIT_S, min=self._first_wait_s / 2),
            retry=retry_if_exception(_is_worth_another_try),
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    return read(await self._post("/v1/chat/completions", body))
        except Faulted as last:
            if _is_worth_another_try(last):
                raise NoReply(last.fault.reason, last.fault.text) from None
            raise
        raise AssertionError("tenacity ends with a result or an exception")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _version(self) -> str | None:
        try:
            version = (await self._get("/version"))["version"]
        except (AdapterError, NoReply, KeyError, TypeError):
            return None
        return str(version)

    async def _get(self, path: str) -> Any:
        response = await self._sent("GET", path, timeout=_ASK_ABOUT_S)
        if response.status_code in (401, 403):
            raise self._wrong_key(response)
        if response.status_code >= 500:
            raise NoReply("server_error", _said(response))
        try:
            return response.raise_for_status().json()
        except (httpx.HTTPStatusError, ValueError):
            raise self._no_such_interface(f"{path} says: {_said(response)}") from None

    async def _post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        response = await self._sent("POST", path, json=body)
        status = response.status_code
        if status in (401, 403):
            raise self._wrong_key(response)
        if status == 404:
            served = await self.served(str(body["model"]))
            raise self._no_such_interface(
                f"it serves {served.name}, but {path} says: {_said(response)}. The model may have been served "
                "without a chat template"
            )
        if status in (408, 429) or status >= 500:
            raise _again("rate_limited" if status == 429 else "server_error", _said(response))
        if status >= 300:
            reason = "too_long" if status == 413 else "refused"
            raise Faulted(Fault("unscored", reason, f"HTTP {status}: {_message(response)}"))
        return response

    async def _sent(self, method: str, path: str, **sending: Any) -> httpx.Response:
        try:
            return await self._client.request(method, path, **sending)
        except httpx.ConnectTimeout:
            raise NoReply("connection", f"{self.url} takes no connection") from None
        except httpx.TimeoutException:
            raise NoReply("timeout", f"{self.url} gave no reply within {self._timeout_s:g} s") from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise AdapterError(
                f"'{self.url}' is no URL of a server ({error}). Expected base_url=http://HOST:PORT."
            ) from None
        except httpx.HTTPError as error:
            raise NoReply("connection", f"the line to {self.url} broke ({error!r})") from None

    def _wrong_key(self, response: httpx.Response) -> AdapterError:
        found = "the key that it holds is not taken" if os.environ.get(KEY) else "it is not set"
        return AdapterError(
            f"{self.url} wants a key (HTTP {response.status_code}). It is read from {KEY}: {found}."
        )

    def _no_such_interface(self, found: str) -> AdapterError:
        return AdapterError(
            f"{self.url} does not speak the chat-completions interface as vLLM does: {found}. Expected the URL of a "
            "server that `egost serve MODEL` or `vllm serve` started."
        )


def _read_completion(response: httpx.Response) -> Completion:
    """Raises Faulted for a body that holds no reply: a proxy's page, a cut or an aborted reply."""
    try:
        body = response.json()
        [choice] = body["choices"]
        content, finish_reason = choice["message"]["content"], choice["finish_reason"]
        usage = body.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        by_kind = details.get("multimodal_tokens")
        # A family without a video input has the 8 frames counted as images.
        video_tokens = None if by_kind is None else by_kind.get("video", 0) + by_kind.get("image", 0)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _again("broken_body", f"no reply, but: {_said(response)}") from None
    text = message_text(content)
    if (text is None and content is not None) or finish_reason in ("abort", "error"):
        raise _again("broken_body", f"the reply was broken off ({finish_reason}): {_said(response)}")
    return Completion(
        text, str(finish_reason), usage.get("prompt_tokens"), usage.get("completion_tokens"), video_tokens
    )


def _read_group(response: httpx.Response) -> SampledGroup:
    """Raises Faulted as `_read_completion`."""
    try:
        body = response.json()
        return SampledGroup(
            prompt_ids=tuple(body["prompt_token_ids"]),
            completion_ids=tuple(tuple(choice["token_ids"]) for choice in body["choices"]),
            log_probabilities=tuple(
                tuple(token["logprob"] for token in choice["logprobs"]["content"])
                for choice in body["choices"]
            ),
        )
    except (ValueError, KeyError, TypeError):
        raise _again("broken_body", f"no completions with their tokens, but: {_said(response)}") from None


def _again(reason: str, text: str) -> Faulted:
    """The server answers, but not with a reply: it may do so a little later."""
    return Faulted(Fault("again", reason, text))


def _is_worth_another_try(error: BaseException) -> bool:
    return isinstance(error, Faulted) and error.fault.action == "again"


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])[:_SHOWN]
    except (ValueError, KeyError, TypeError):
        return _said(response)


def _said(response: httpx.Response) -> str:
    kind = response.headers.get("content-type", "no type")
    return f"HTTP {response.status_code} ({kind}): {response.text[:_SHOWN]}"
