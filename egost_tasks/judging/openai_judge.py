"""GPT-4o, or any model behind the chat-completions interface, as a judge.

    judge = OpenAIJudge(parse_endpoint("gpt-4o"))
    judge.start(items)          # returns at once; the judging goes on in the background
    verdicts = judge(items)     # waits; finds what is under way or done

The calls run in an event loop of their own in a background thread, so that one judge serves several threads.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import json
import os
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egost.tasks.cache import cache_root
from egost.tasks.chat.asker import MAX_TOKENS, SCORES_SCHEMA, SEED, Asker
from egost.tasks.chat.endpoint import Endpoint, parse_endpoint
from egost.tasks.chat.paced_calls import NoReply
from egost.tasks.chat.pacing import Pacing, chosen_pacing
from egost.tasks.chat.usage import JudgeUsage, Tally
from egost.tasks.errors import CacheError
from egost.tasks.judging.judge import (
    JudgeError,
    JudgeFailure,
    Judgement,
    JudgeStopped,
    RouteItem,
    judge_empty,
)
from egost.tasks.judging.judgement_cache import JudgementCache, Kept
from egost.tasks.judging.prompt import COMPAT, STRICT, load_judge_prompt
from egost.tasks.judging.reading import Unreadable, read_scores

_POLL_S = 0.2
_AHEAD = 2
"""Judgements under way for each call at once, so that one that waits to try again leaves no lane idle."""


STAYS_STOPPED_S = 60.0
"""How long `shared_judge` keeps a judge that has stopped. A run asks for it sample by sample, and a new one each time
would call a server that refuses 32 times for each of 1,578 samples; a process that lives on may try again."""


@dataclass(frozen=True, slots=True)
class _Failed:
    reason: str
    text: str


_Verdict = Kept | _Failed


class OpenAIJudge:
    """A judge behind the chat-completions interface.

    endpoint: see `parse_endpoint`. repeats: judgements for each item, each with a seed of its own; the first one
    counts, all stand in `Judgement.repeats`. folder: where judgements are kept, `judge` in the cache by default.
    tally: an account that goes on, a new one by default.

    Raises JudgeError when the key is missing or repeats is below 1, CacheError when the folder cannot be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        repeats: int = 1,
        pacing: Pacing | None = None,
        folder: Path | None = None,
        tally: Tally | None = None,
    ) -> None:
        if repeats < 1:
            raise JudgeError(
                f"A judge cannot repeat {repeats} times; expected 1 or more judgements a sample."
            )
        self._pacing = pacing or Pacing()
        self._endpoint, self._repeats = endpoint, repeats
        self._prompt = load_judge_prompt(COMPAT if endpoint.compat else STRICT)
        self._form = SCORES_SCHEMA if self._prompt.reply == "json" else None
        self.tally = tally or Tally()
        self._asker = Asker(endpoint, self._pacing, self.tally)
        self._cache = JudgementCache(folder or cache_root() / "judge", self._pacing.lease_s)
        self._admitted = asyncio.Semaphore(_AHEAD * self._pacing.concurrency)
        self._lock = threading.Lock()
        self._closed = False
        self._verdicts: dict[str, Future[_Verdict]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="egost-judge", daemon=True)
        self._thread.start()
        self._beat = self._in_loop(self._keep_claims())
        atexit.register(self.close)

    @property
    def name(self) -> str:
        """The endpoint's name and the prompt's, for example `gpt-4o-2024-08-06+route-judge-1`."""
        return f"{self._endpoint.label}+{self._prompt.label}"

    @property
    def usage(self) -> JudgeUsage:
        """What this process has asked for so far; may be read at any time."""
        return self.tally.usage(self.name, self._endpoint.model, self._prompt.label, self._prompt.sha256)

    def stopped_for(self, seconds: float) -> bool:
        """Whether the judging ended for good, at least so long ago."""
        stopped_at = self._asker.calls.stopped_at
        return stopped_at is not None and time.monotonic() - stopped_at >= seconds

    def start(self, items: Sequence[RouteItem]) -> None:
        """Begin to judge items in the background; returns at once. Errors appear when the verdicts are asked for."""
        with suppress(JudgeStopped):
            for item in items:
                if _has_texts(item):
                    self._futures(item)

    def __call__(self, items: Sequence[RouteItem]) -> list[Judgement | JudgeFailure]:
        """Judge items, or take what was judged or started before.

        Raises JudgeStopped when the server refuses or does not answer at all, CacheError when judgements cannot
        be kept; what was judged until then is kept all the same.
        """
        asked = [self._futures(item) if _has_texts(item) else [] for item in items]
        wait([future for futures in asked for future in futures])
        try:
            return [self._verdict(item, futures) for item, futures in zip(items, asked, strict=True)]
        finally:
            self._forget_failures(items)

    def close(self) -> None:
        """End the judging; whoever waits for it, or asks afterwards for what is not judged, gets JudgeStopped."""
        atexit.unregister(self.close)
        with self._lock:
            if self._closed or not self._thread.is_alive():
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()
            self._cache.close()

    def _verdict(self, item: RouteItem, futures: Sequence[Future[_Verdict]]) -> Judgement | JudgeFailure:
        if not item.reference.strip():
            return JudgeFailure(item.sample_id, "empty_reference", "", self.name)
        if empty := judge_empty(item, self.name):
            return empty
        try:
            first = futures[0].result()
        except CancelledError:
            raise self._closing() from None
        if isinstance(first, _Failed):
            return JudgeFailure(item.sample_id, first.reason, first.text, self.name)
        # The first one counts: it stands although the judging was stopped before the others were made.
        found = [first, *(other for other in map(_settled, futures[1:]) if isinstance(other, Kept))]
        triples = tuple((k.scores.direction, k.scores.landmark, k.scores.semantic) for k in found)
        return Judgement(
            item.sample_id,
            *triples[0],
            first.scores.reasons,
            self.name,
            snapshot=first.snapshot,
            repeats=triples if self._repeats > 1 else (),
        )

    def _futures(self, item: RouteItem) -> list[Future[_Verdict]]:
        keys = [self._key(item, repeat) for repeat in range(self._repeats)]
        with self._lock:
            for repeat, key in enumerate(keys):
                if key not in self._verdicts:
                    if self._closed:
                        raise self._closing()
                    self.tally.begin()
                    self._verdicts[key] = self._in_loop(self._judge(key, item, repeat))
                    self._verdicts[key].add_done_callback(lambda _: self.tally.end())
            return [self._verdicts[key] for key in keys]

    def _forget_failures(self, items: Sequence[RouteItem]) -> None:
        """A failure is handed out once: whoever asks again has the server asked again."""
        with self._lock:
            for item in items:
                for repeat in range(self._repeats):
                    future = self._verdicts.get(self._key(item, repeat))
                    if future and isinstance(_settled(future), _Failed):
                        self._verdicts.pop(self._key(item, repeat))

    def _key(self, item: RouteItem, repeat: int) -> str:
        parts: list[Any] = [
            self._endpoint.label,
            self._endpoint.model,
            self._prompt.label,
            self._prompt.sha256,
            {"temperature": 0, "seed": SEED, "max_tokens": MAX_TOKENS},
            self._form,
            [item.question, item.reference, item.prediction, item.way],
            repeat,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _in_loop(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _judge(self, key: str, item: RouteItem, repeat: int) -> _Verdict:
        try:
            while True:
                async with self._admitted:
                    if kept := self._cache.get(key):
                        self.tally.scored(kept.snapshot, cached=True)
                        return kept
                    self._asker.calls.check()
                    if self._cache.claim(key):
                        try:
                            return await self._ask(key, item, repeat)
                        finally:
                            self._cache.release(key)
                await self._asker.calls.sleep(_POLL_S)
        except CacheError as error:
            self._asker.calls.stop(error)
            raise
        except JudgeStopped:
            raise
        except Exception as error:
            # Its text may hold the key.
            kind = type(error).__name__
        # Outside of the handler, so that the exception is not kept as this one's context.
        why = JudgeStopped(
            f"The judge {self._endpoint.label} ended with an unexpected {kind}. What was judged is kept."
        )
        self._asker.calls.stop(why)
        raise why

    def _closing(self) -> JudgeStopped:
        return JudgeStopped(f"The judge {self._endpoint.label} was closed. What was judged is kept.")

    async def _ask(self, key: str, item: RouteItem, repeat: int) -> _Verdict:
        failed = _Failed("", "")
        for ask in range(self._pacing.asks):
            try:
                # Another seed each time: the same one would bring the same unreadable reply.
                seed = SEED + repeat * self._pacing.asks + ask
                completion = await self._asker.ask(self._prompt.messages(item), seed, ask > 0, self._form)
            except NoReply as error:
                failed = _Failed(error.reason, str(error))
                break
            read = read_scores(completion, self._prompt.reply)
            if not isinstance(read, Unreadable):
                kept = Kept(read, completion.snapshot, self.tally.left_out)
                self._cache.keep(key, self.name, kept)
                self.tally.scored(kept.snapshot, cached=False)
                return kept
            self.tally.fault(read.reason)
            failed = _Failed(read.reason, read.text)
        self.tally.failed(failed.reason)
        return failed

    async def _keep_claims(self) -> None:
        try:
            while True:
                await asyncio.sleep(self._pacing.lease_s / 3)
                self._cache.renew()
        except CacheError as error:
            self._asker.calls.stop(error)

    async def _shut(self) -> None:
        self._asker.calls.stop(self._closing())
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._asker.close()
        self._loop.call_soon(self._loop.stop)


def _has_texts(item: RouteItem) -> bool:
    return bool(item.prediction.strip() and item.reference.strip())


def _settled(future: Future[_Verdict]) -> _Verdict | None:
    """What a future holds; None while it is under way and where it was stopped."""
    if not future.done() or future.cancelled() or future.exception():
        return None
    return future.result()


_shared: dict[tuple[Any, ...], OpenAIJudge] = {}
_sharing = threading.Lock()


def shared_judge(spec: str, repeats: int) -> OpenAIJudge:
    """The one judge of this process for a name, with the settings of the environment. See `OpenAIJudge`.

    One that has stopped stays for `STAYS_STOPPED_S`; who asks then gets a new one, which goes on with its account.
    """
    settings = (spec, repeats, chosen_pacing(), cache_root() / "judge", os.getpid())
    with _sharing:
        judge = _shared.get(settings)
        if judge is None or judge.stopped_for(STAYS_STOPPED_S):
            tally = None
            if judge is not None:
                judge.close()
                tally = judge.tally
            judge = OpenAIJudge(
                parse_endpoint(spec), repeats=repeats, pacing=settings[2], folder=settings[3], tally=tally
            )
            _shared[settings] = judge
        return judge
