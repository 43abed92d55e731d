"""`lmms-eval --model egost_gemini --model_args model=gemini-2.5-flash`; see `gemini_engine`."""

from __future__ import annotations

from dataclasses import replace

from egost.model_adapters.api.api_calls import DEFAULT_PACING
from egost.model_adapters.api.gemini_engine import THINKING_ROOM, GeminiEngine
from egost.model_adapters.lmms_model import EngineModel
from egost.tasks.errors import exits_with_message


class EgostGemini(EngineModel):
    """A Gemini model as a model of lmms-eval.

    concurrency: most calls at once; timeout_s: seconds for one of them; the others: see `GeminiEngine`.
    seed, fresh: see `EngineModel`. batch_size, max_batch_size, device: lmms-eval's own; of no use here.
    """

    @exits_with_message
    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        thinking_budget: int | None = None,
        thinking_level: str | None = None,
        thinking_room: int = THINKING_ROOM,
        max_usd: float | None = None,
        concurrency: int = DEFAULT_PACING.concurrency,
        timeout_s: float = DEFAULT_PACING.timeout_s,
        seed: int = 0,
        fresh: bool = False,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        engine = GeminiEngine(
            model,
            base_url=base_url,
            thinking_budget=thinking_budget,
            thinking_level=thinking_level,
            thinking_room=thinking_room,
            max_usd=max_usd,
            pacing=replace(DEFAULT_PACING, concurrency=concurrency, timeout_s=timeout_s),
        )
        super().__init__(engine, seed=seed, fresh=fresh)
