"""GPT-4o, or any model behind the chat-completions interface, as a judge.

judge = OpenAIJudge(parse_endpoint("gpt-4o"))
judge.start(items)          # returns at once; the judging goes on in the background
verdicts = judge(items)     # waits; finds what is under way or done
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import closing, suppress
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from loguru import logger

from egost.tasks.cache import cache_root
from egost.tasks.chat.calls import Pacing, chosen_pacing
from egost.tasks.chat.client import Role
from egost.tasks.chat.endpoint import Endpoint, parse_endpoint
from egost.tasks.chat.reading import Completion
from egost.tasks.chat.reply_store import Body
from egost.tasks.chat.structured import MAX_TOKENS, SEED, Answered, Asker, Question, Unanswered, reply_store
from egost.tasks.chat.usage import Tally
from egost.tasks.judging.judge import (
    ASPECTS,
    JudgeError,
    JudgeFailure,
    Judgement,
    JudgeStopped,
    JudgeUsage,
    RouteItem,
    judge_empty,
)
from egost.tasks.judging.prompt import (
    COMPAT,
    MAX_REASON,
    SCORES_ALONE,
    STRICT,
    Scores,
    compat_percent,
    load_judge_prompt,
    read_scores,
    scores_form,
)

_ROLE = Role("The judge", "What was judged is kept", "EGOST_JUDGE or --judge", JudgeStopped)

STAYS_STOPPED_S = 60.0
"""How long `shared_judge` keeps a judge that has stopped. A run asks for it sample by sample, and a new one each time
would call a server that refuses 32 times for each of 1,578 samples; a process that lives on may try again."""


_Verdict = Answered[Scores] | Unanswered


class OpenAIJudge:
    """A judge behind the chat-completions interface.

    endpoint: see `parse_endpoint`. compat: asks as the reference code does: for its form of reply, once, at the
    server's own temperature. repeats: judgements for each item, each with a seed of its own; the first one counts, all
    are in `Judgement.repeats`. folder: where replies are kept, `judge` in the cache by default. tally: an account that
    goes on, a new one by default.

    Raises JudgeError when repeats is below 1, SettingError when the key is missing, CacheError when the folder cannot
    be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        compat: bool = False,
        repeats: int = 1,
        pacing: Pacing | None = None,
        folder: Path | None = None,
        tally: Tally | None = None,
    ) -> None:
        if repeats < 1:
            raise JudgeError(
                f"A judge cannot repeat {repeats} times; expected 1 or more judgements a sample."
            )
        folder = folder or cache_root() / "judge"
        self._pacing = pacing or Pacing()
        if compat:
            self._pacing = replace(self._pacing, asks=1)
        self._compat, self._temperature = compat, None if compat else 0
        self._endpoint, self._repeats = endpoint, repeats
        self._prompt = load_judge_prompt(COMPAT if compat else STRICT)
        # A bound is no part of the key: what was judged without one stays judged.
        self._form = scores_form() if self._prompt.reply == "json" else None
        self._sent_form = self._form and scores_form(None if endpoint.needs_key else MAX_REASON)
        older = partial(_older, folder / "judgements.sqlite")
        self._asker = Asker(endpoint, _ROLE, reply_store(folder, older), self._pacing, tally)
        self._lock = threading.Lock()
        self._verdicts: dict[str, Future[_Verdict]] = {}

    @property
    def name(self) -> str:
        """The endpoint's name and the prompt's, for example `gpt-4o-2024-08-06+route-judge-1`."""
        return f"{self._endpoint.label}+{self._prompt.label}"

    @property
    def usage(self) -> JudgeUsage:
        """What this process has asked for so far; may be read at any time."""
        tally, prompt = self._asker.tally, self._prompt
        used = tally.usage(self._endpoint.model)
        return JudgeUsage(
            judge=self.name,
            prompt=prompt.label,
            prompt_sha256=prompt.sha256,
            judged=tally.n_answered,
            **vars(used),
        )

    @property
    def tally(self) -> Tally:
        """The account, for a judge that follows this one."""
        return self._asker.tally

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
        self._asker.close()

    def _verdict(self, item: RouteItem, futures: Sequence[Future[_Verdict]]) -> Judgement | JudgeFailure:
        if not item.reference.strip():
            return JudgeFailure(item.sample_id, "empty_reference", "", self.name)
        if empty := judge_empty(item, self.name):
            return empty
        try:
            first = futures[0].result()
        except CancelledError:
            raise self._asker.calls.closing() from None
        if isinstance(first, Unanswered):
            compat_score = compat_percent(first.text) if self._compat else 0.0
            return JudgeFailure(item.sample_id, first.reason, first.text, self.name, compat_score)
        # The first one counts: it counts although the judging was stopped before the others were made.
        found = [first, *(other for other in map(_settled, futures[1:]) if isinstance(other, Answered))]
        triples = tuple((a.content.direction, a.content.landmark, a.content.semantic) for a in found)
        return Judgement(
            item.sample_id,
            *triples[0],
            first.content.reasons,
            self.name,
            snapshot=first.snapshot,
            repeats=triples if self._repeats > 1 else (),
            compat=first.content.compat,
        )

    def _futures(self, item: RouteItem) -> list[Future[_Verdict]]:
        keys = [self._key(item, repeat) for repeat in range(self._repeats)]
        with self._lock:
            for repeat, key in enumerate(keys):
                if key not in self._verdicts:
                    self._verdicts[key] = self._asker.submit(self._question(key, item, repeat))
            return [self._verdicts[key] for key in keys]

    def _forget_failures(self, items: Sequence[RouteItem]) -> None:
        """A failure is handed out once: whoever asks again has the server asked again."""
        with self._lock:
            for item in items:
                for repeat in range(self._repeats):
                    future = self._verdicts.get(self._key(item, repeat))
                    if future and isinstance(_settled(future), Unanswered):
                        self._verdicts.pop(self._key(item, repeat))

    def _question(self, key: str, item: RouteItem, repeat: int) -> Question[Scores]:
        return Question(
            key=lambda ask: key,
            messages=lambda: self._prompt.messages(item),
            form=self._sent_form,
            read=lambda completion: read_scores(completion, self._prompt.reply),
            seed=SEED + repeat * self._pacing.asks,
            temperature=self._temperature,
            # What the public reader cannot read is scored, too: another run must not draw another reply.
            keeps_all=self._compat,
            shorter=(lambda: self._prompt.messages_for_scores_alone(item), SCORES_ALONE)
            if self._form
            else None,
        )

    def _key(self, item: RouteItem, repeat: int) -> str:
        parts: list[Any] = [
            self._endpoint.label,
            self._endpoint.model,
            self._prompt.label,
            self._prompt.sha256,
            {"temperature": self._temperature, "seed": SEED, "max_tokens": MAX_TOKENS},
            self._form,
            [item.question, item.reference, item.prediction, item.way],
            repeat,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _has_texts(item: RouteItem) -> bool:
    return bool(item.prediction.strip() and item.reference.strip())


def _settled(future: Future[_Verdict]) -> _Verdict | None:
    """What a future holds; None while it is under way and where it was stopped."""
    if not future.done() or future.cancelled() or future.exception():
        return None
    return future.result()


def _older(path: Path, key: str) -> Body | None:
    """A judgement of versions that kept scores and not replies, as a reply that says the same."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            row = db.execute(
                "SELECT direction, landmark, semantic, reasons, snapshot FROM judgements WHERE key = ?",
                (key,),
            ).fetchone()
    except sqlite3.Error as error:
        _say_unreadable(path, str(error))
        return None
    if row is None:
        return None
    *scores, reasons, snapshot = row
    said: dict[str, Any] = dict(zip(ASPECTS, scores, strict=True))
    # The reasons are one text that begins with an aspect; read again, it is the same text.
    aspect, _, reason = reasons.partition(": ")
    if reason:
        said[f"{aspect}_reason"] = reason
    return asdict(Completion(json.dumps(said), "", "stop", snapshot, 0, 0))


@cache
def _say_unreadable(path: Path, why: str) -> None:
    logger.warning(f"egost: {path} cannot be read ({why}); the judgements in it are asked for again.")


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
            name = spec.removesuffix("+compat")
            judge = OpenAIJudge(
                parse_endpoint(name),
                compat=name != spec,
                repeats=repeats,
                pacing=settings[2],
                folder=settings[3],
                tally=tally,
            )
            _shared[settings] = judge
        return judge
