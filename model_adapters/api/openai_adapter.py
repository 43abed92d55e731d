"""`lmms-eval --model egost_openai --model_args model=gpt-4o-2024-08-06`; see `openai_engine`."""

from __future__ import annotations

from dataclasses import replace

from egost.model_adapters.api.api_calls import DEFAULT_PACING
from egost.model_adapters.api.openai_engine import REASONING_ROOM, OpenAIEngine
from egost.model_adapters.lmms_model import EngineModel
from egost.tasks.errors import exits_with_message


class EgostOpenAI(EngineModel):
    """A model behind the chat-completions interface as a model of lmms-eval.

    concurrency: most calls at once; timeout_s: seconds for one of them; the others: see `OpenAIEngine`.
    seed, fresh: see `EngineModel`. batch_size, max_batch_size, device: lmms-eval's own; of no use here.
    """

    @exits_with_message
    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        azure_endpoint: str | None = None,
        detail: str = "low",
        reasoning: bool | None = None,
        reasoning_effort: str | None = None,
        reasoning_room: int = REASONING_ROOM,
        max_usd: float | None = None,
        concurrency: int = DEFAULT_PACING.concurrency,
        timeout_s: float = DEFAULT_PACING.timeout_s,
        seed: int = 0,
        fresh: bool = False,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        engine = OpenAIEngine(
            model,
            base_url=base_url,
            azure_endpoint=azure_endpoint,
            detail=detail,
            reasoning=reasoning,
            reasoning_effort=reasoning_effort,
            reasoning_room=reasoning_room,
            max_usd=max_usd,
            pacing=replace(DEFAULT_PACING, concurrency=concurrency, timeout_s=timeout_s),
            seed=seed,
        )
        super().__init__(engine, seed=seed, fresh=fresh)
