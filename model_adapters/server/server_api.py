"""One server with vLLM's chat-completions interface: what it serves, and one reply at a time."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

from loguru import logger
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError, EngineIdentity, SampledGroup
from egost.model_adapters.families import FAMILIES, Family
from egost.model_adapters.server.server_replies import (
    Completion,
    Models,
    Version,
    Weights,
    again,
    read_completion,
    read_group,
)
from egost.tasks.chat.calls import Fault, Faulted, NoReply, Pacing
from egost.tasks.chat.http import Http, Response, shown
from egost.tasks.chat.reading import Said, read_body
from egost.tasks.keys import SERVER_KEY, check_url, read_key

_MARK = "egost?"

ROLLOUTS = "rollouts"
"""The setting of a server that samples for a training, and how it takes the weights, which change after its start."""


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
M = TypeVar("M", bound=Said)

TRIES = 4
"""Of one request on one server that is busy or in trouble, before another server is asked."""

_PLACE = secrets.token_hex(16)

_HEALTH_S = 10.0
_ASK_ABOUT_S = 30.0
_LONGEST_WAIT_S = 20.0


@dataclass(frozen=True)
class Encoded:
    """A part of a request's body that is JSON already: made once for all requests that hold it."""

    json: bytes


def pieces_of(body: Mapping[str, Any]) -> list[bytes]:
    """A body as JSON, in pieces that follow each other; what is `Encoded` is a piece of its own and is not copied."""
    encoded: list[bytes] = []

    def place(part: Encoded) -> str:
        encoded.append(part.json)
        return _PLACE

    first, *others = json.dumps(body, default=place).encode().split(f'"{_PLACE}"'.encode())
    return [first, *(piece for pair in zip(encoded, others, strict=True) for piece in pair)]


class ServerApi:
    """A server at a base URL; for use within one event loop. sent_bytes: of the bodies of all requests for replies.

    url: with or without a final `/v1`. timeout_s: for one whole reply, its time in the server's queue included.
    first_wait_s: before a request is made again that the server was too busy for; doubles each time.
    """

    def __init__(self, url: str, timeout_s: float, first_wait_s: float = 1.0) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._first_wait_s = first_wait_s
        check_url(self.url, "base_url", SERVER_KEY, AdapterError)
        key = read_key(SERVER_KEY, AdapterError)
        self._http = Http(self.url, timeout_s, {"Authorization": f"Bearer {key}"} if key else {})
        self._paused_until = 0.0
        self.sent_bytes = 0

    async def served(self, wanted: str | None) -> ServedModel:
        """The model that the server serves. wanted: its name; None takes the first that the server names.

        Raises NoReply where the server is not up, AdapterError where it is none of this interface, wants another
        key or does not serve the wanted model.
        """
        cards = {card.id: card for card in (await self._get("/v1/models", Models)).data}
        names = list(cards)
        own = own_names(names)
        if not own or (wanted is not None and wanted not in own):
            raise AdapterError(
                f"{self.url} does not serve {f'the model {wanted!r}' if wanted else 'any model'}; it serves: "
                f"{', '.join(own) or 'nothing'}. Fix model= in --model_args, or leave it out."
            )
        name = wanted or own[0]
        version = await self._version()
        root, parent = cards[name].root or name, cards[name].parent
        parents = (parent, cards[parent].root if parent in cards else "") if parent else ()
        return ServedModel(name, root, version, advertised_settings(names), tuple(filter(None, parents)))

    async def healthy(self) -> bool:
        """Whether the server is up and its engine alive (vLLM answers 503 where the engine died)."""
        try:
            response = await self._http.send("GET", "/health", timeout_s=_HEALTH_S)
        except Faulted:
            return False
        # A server of another make may have no such page, and be up all the same.
        return response.status < 500

    async def complete(self, body: Mapping[str, Any]) -> Completion:
        """The reply to one chat-completions request.

        Asked again while the server is busy, in trouble or unreadable, up to `TRIES` times. Raises NoReply (`timeout`,
        `connection`, `rate_limited`, `server_error`, `broken_body`) for a fault of the server or of the line, Faulted
        (`too_long`, `refused`) where this request gets none however often it is made, and AdapterError where no request
        can work (key, name of the model, no such interface).
        """
        return await self._completed(body, read_completion)

    async def sample(self, body: Mapping[str, Any]) -> SampledGroup:
        """The completions of one chat-completions request that asks for token ids and log-probabilities.

        Asked again, and raises, as `complete`.
        """
        return await self._completed(body, read_group)

    async def take_weights(self, name: str, checkpoint: Path | None) -> None:
        """Let the server go on with new weights, and forget what the old ones made.

        name: by which it knows them from now on. checkpoint: folder of them; None where it has got them already.
        Raises NoReply where the server is gone, AdapterError where it takes no weights, or not these.
        """
        reload = {"method": "reload_weights", "kwargs": {"weights_path": str(checkpoint)}}
        for path, body in (
            *([("/collective_rpc", reload)] if checkpoint else []),
            ("/reset_prefix_cache", None),
            ("/reset_encoder_cache", None),
            ("/update_weight_version", {"new_version": name}),
        ):
            response = await self._sent("POST", path, [json.dumps(body).encode()] if body else [])
            if response.status == 404:
                raise AdapterError(
                    f"{self.url} takes no weights. Start it for that: egost serve MODEL --rollouts."
                )
            refused = path == "/reset_prefix_cache" and response.text.replace(" ", "") == '{"success":false}'
            if response.status != 200 or refused:
                raise AdapterError(
                    f"{self.url} did not take the weights {f'in {checkpoint}' if checkpoint else f'of {name}'}: {path} "
                    f"says: {_said(response)}. It must {'share the disk, ' if checkpoint else ''}serve the model that "
                    "is trained, and have no other client meanwhile; its log says more."
                )

    async def weights(self) -> str:
        """The name that `take_weights` gave the weights that the server holds. Raises as `served`."""
        return (await self._get("/weight_info", Weights)).weight_version

    async def _completed(self, body: Mapping[str, Any], read: Callable[[bytes], T]) -> T:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(TRIES),
            wait=wait_random_exponential(self._first_wait_s, _LONGEST_WAIT_S, min=self._first_wait_s / 2),
            retry=retry_if_exception(_is_worth_another_try),
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    await asyncio.sleep(self._paused_until - time.monotonic())
                    return read((await self._post("/v1/chat/completions", body)).body)
        except Faulted as last:
            if _is_worth_another_try(last):
                raise NoReply(last.fault.reason, last.fault.text) from None
            raise
        raise AssertionError("tenacity ends with a result or an exception")

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _version(self) -> str | None:
        try:
            return (await self._get("/version", Version)).version
        except (AdapterError, NoReply):
            return None

    async def _get(self, path: str, form: type[M]) -> M:
        try:
            response = await self._sent("GET", path, timeout_s=_ASK_ABOUT_S)
            if response.status in (401, 403):
                raise self._wrong_key(response)
            if response.status >= 500:
                raise NoReply("server_error", _said(response))
            if response.status != 200:
                raise self._no_such_interface(f"{path} says: {_said(response)}")
            return read_body(response.body, form, f"answer to {path}")
        except Faulted as error:
            raise self._no_such_interface(f"{path}: {error}") from None

    async def _post(self, path: str, body: Mapping[str, Any]) -> Response:
        pieces = pieces_of(body)
        self.sent_bytes += sum(map(len, pieces))
        response = await self._sent("POST", path, pieces)
        status = response.status
        if status in (401, 403):
            raise self._wrong_key(response)
        if status == 404:
            served = await self.served(str(body["model"]))
            raise self._no_such_interface(
                f"it serves {served.name}, but {path} says: {_said(response)}. The model may have been served "
                "without a chat template"
            )
        if status in (408, 429) or status >= 500:
            self._pause(response)
            raise again("rate_limited" if status == 429 else "server_error", _said(response))
        if status >= 300:
            reason = "too_long" if status == 413 else "refused"
            raise Faulted(Fault("unscored", reason, f"HTTP {status}: {shown(response.message)}"))
        return response

    def _pause(self, response: Response) -> None:
        """Ask for no reply as long as the server wants it. Raises NoReply where that is too long."""
        seconds = response.wait_s or 0.0
        if seconds > Pacing().longest_pause_s:
            reason = "rate_limited" if response.status == 429 else "server_error"
            raise NoReply(reason, f"{self.url} asks to wait {seconds:.0f} s: {_said(response)}")
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    async def _sent(
        self, method: str, path: str, pieces: Sequence[bytes] = (), timeout_s: float | None = None
    ) -> Response:
        try:
            return await self._http.send(method, path, pieces, timeout_s)
        except Faulted as error:
            if error.fault.action == "stop":
                raise AdapterError(error.fault.text) from None
            if not error.fault.alive:
                raise NoReply(error.fault.reason, error.fault.text) from None
            raise

    def _wrong_key(self, response: Response) -> AdapterError:
        found = "the key that it holds is not taken" if os.environ.get(SERVER_KEY) else "it is not set"
        return AdapterError(
            f"{self.url} wants a key (HTTP {response.status}). It is read from {SERVER_KEY}: {found}."
        )

    def _no_such_interface(self, found: str) -> AdapterError:
        return AdapterError(
            f"{self.url} does not speak the chat-completions interface as vLLM does: {found}. Expected the URL of a "
            "server that `egost serve MODEL` or `vllm serve` started."
        )


def _is_worth_another_try(error: BaseException) -> bool:
    return isinstance(error, Faulted) and error.fault.action == "again"


def _said(response: Response) -> str:
    return f"HTTP {response.status} ({shown(response.kind)}): {shown(response.text)}"
