"""vLLM, looked at while it answers: what its processor made of the frames, and how sure it was of each token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from egost.model_adapters.engine import AdapterError, Ask, EngineIdentity
from egost.model_adapters.parity.traces import TOP, Step, Trace, video_reach, video_signature
from egost.model_adapters.vllm.vllm_engine import VllmEngine
from egost.tasks.clips.lossless import pixels_sha256


class TracingVllm:
    """The engine that evaluates, asked one question after another."""

    def __init__(self, engine: VllmEngine) -> None:
        """Raises AdapterError for a family whose frames are no video."""
        if engine.renderer.family.frames_as != "video":
            raise AdapterError(
                f"{engine.checkpoint.name} takes its frames as images; engines are compared for families that take a "
                "video."
            )
        self.engine = engine

    @property
    def identity(self) -> EngineIdentity:
        return self.engine.identity

    def trace(self, asks: Sequence[Ask]) -> Iterator[Trace]:
        """Answer the asks one by one and show what vLLM made of each. Raises AdapterError where one is refused."""
        for number, ask in enumerate(asks):
            request = self.engine.request(ask)
            # The cache of processed frames would leave out those that it has.
            [rendered] = self.engine.llm.renderer.render_cmpl([request], skip_mm_cache=True)
            yield self._trace(ask, request, rendered, self._finished(f"parity-{number}", ask, rendered))

    def close(self) -> None:
        self.engine.close()

    def _finished(self, name: str, ask: Ask, rendered: Any) -> Any:
        core = self.engine.llm.llm_engine
        sampling = self.engine.sampling(ask.arguments)
        sampling.logprobs = TOP
        try:
            core.add_request(name, rendered, sampling)
            while core.has_unfinished_requests():
                for output in core.step():
                    if output.finished:
                        return output
        except ValueError as error:
            raise AdapterError(f"{ask.sample}: vLLM does not take it ({error}).") from error
        raise AdapterError(f"{ask.sample}: vLLM ended without a reply to it.")

    def _trace(self, ask: Ask, request: Any, rendered: Any, output: Any) -> Trace:
        [completion] = output.outputs
        grid = video = seconds = reach = frames_sha256 = None
        if ask.clip is not None:
            [(frames, _)] = request["multi_modal_data"]["video"]
            frames_sha256 = pixels_sha256(frames)
            processed = rendered["mm_kwargs"]["video"][0].get_data()
            if (told := processed.get("second_per_grid_ts")) is not None:
                seconds = float(told)
            if (found := processed.get("video_grid_thw")) is not None:
                time, height, width = (int(side) for side in found.flatten())
                grid = (time, height, width)
                reach = video_reach(grid, seconds, self.engine.renderer.config)
            video = video_signature(
                processed["pixel_values_videos"], grid, self.engine.renderer.processor.video_processor
            )
        return Trace(
            sample=ask.sample,
            frames_sha256=frames_sha256,
            video=video,
            grid=grid,
            seconds=seconds,
            reach=reach,
            prompt_tokens=tuple(output.prompt_token_ids),
            video_tokens=output.prompt_token_ids.count(self.engine.renderer.video_token),
            steps=tuple(
                Step(token, top[token].decoded_token or "", {i: found.logprob for i, found in top.items()})
                for token, top in zip(completion.token_ids, completion.logprobs, strict=True)
            ),
            text=completion.text,
        )
