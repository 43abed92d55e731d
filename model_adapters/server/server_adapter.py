"""`lmms-eval --model egost_server`: one or several servers that speak vLLM's chat-completions interface.

egost serve Qwen/Qwen2.5-VL-7B-Instruct --gpus 1
lmms-eval --tasks egost --model egost_server --model_args base_url=http://127.0.0.1:8000
"""

from __future__ import annotations

from typing import cast, get_args

from egost.model_adapters.engine import AdapterError
from egost.model_adapters.lmms_model import EngineModel
from egost.model_adapters.server.server_engine import AT_ONCE, ServerEngine
from egost.model_adapters.server.server_frames import Media
from egost.tasks.errors import exits_with_message


class EgostServer(EngineModel):
    """See `ServerEngine` for what concurrency, media, timeout and wait (both in seconds) mean.

    base_url: one URL, or several with `;` between them. model: a name that the servers serve; by default the one
    that they name. seed, fresh: see EngineModel. batch_size, max_batch_size, device: lmms-eval's; a server has its
    own. The key, if the servers want one, is `EGOST_SERVER_API_KEY` in the environment.
    """

    @exits_with_message
    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        concurrency: int = AT_ONCE,
        media: str = "auto",
        timeout: float = 600.0,
        wait: float = 300.0,
        seed: int = 0,
        fresh: bool = False,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        if media not in get_args(Media):
            raise AdapterError(f"media={media} is not known; expected one of {', '.join(get_args(Media))}.")
        if min(concurrency, timeout, wait) <= 0:
            raise AdapterError(
                f"concurrency={concurrency}, timeout={timeout} and wait={wait} must all be above 0."
            )
        urls = list(dict.fromkeys(url.strip() for url in str(base_url).split(";") if url.strip()))
        if not urls:
            raise AdapterError("base_url names no server; expected base_url=http://HOST:PORT[;http://...].")
        engine = ServerEngine(
            urls,
            model=model,
            concurrency=int(concurrency),
            media=cast(Media, media),
            timeout_s=float(timeout),
            wait_s=float(wait),
        )
        super().__init__(engine, seed=seed, fresh=fresh)
