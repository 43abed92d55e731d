"""The tokenizer of the embedded checkpoint: any text in bytes, the mini world's wording in few tokens.

A byte-level vocabulary learnt on the mini world's texts, and, as one token each, the fixed sentences of
the prompts, the fixed parts of a route's sentences, and the names of panels and actions. So a question takes
some 50 tokens, and two panels are compared by comparing two tokens; what is worded otherwise is spelt in words and
bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from egost.model_adapters.tiny_checkpoint import CORPUS_PROMPTS, byte_level_tokenizer, mini_corpus
from egost.tasks.mini_world.steps import ACTION_WORDS, LANDMARKS, QUESTIONS, TURNS, ClipTruth, tell_route
from egost.tasks.mini_world.walks import plan_clip
from egost.tasks.prompts import load_prompt
from egost.tasks.sample import WAYS
from egost.training.rows.reverse_thinking import THOUGHTS, without_point_names
from egost.training.video_inputs import SYSTEM_PROMPT

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
IN_WORDS = "Say the one correct option in words, and then give its letter."
LEADS = ("It is:", "The right one is:", "In order:")
"""How a question asks for words and letter, and how such an answer opens."""

_ROLES = ("system", "user", "assistant")
_LETTERS = ("A or B", "A, B or C", "A, B, C or D")
_JOINS = (", then", ", after that")
_FIELD = re.compile(r"\$\w+|\n")
_VOCABULARY = 900
_CORPUS_WALKS = 200


def make_tokenizer() -> Any:
    """A `Qwen2Tokenizer` with the vocabulary above; the same each time."""
    from tokenizers import AddedToken

    # Padding is on the left, as Qwen2-VL's: lmms-eval generates in batches with it.
    tokenizer = byte_level_tokenizer(mini_corpus(_CORPUS_WALKS), _VOCABULARY, padding_side="left")
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in phrases()])
    return tokenizer


def phrases() -> list[str]:
    """What is one token each: tags, fixed sentences of prompts and questions, and the parts of a route's sentences."""
    prompts = [
        text for name in CORPUS_PROMPTS for text in (load_prompt(name).choice, load_prompt(name).route)
    ]
    sentences = {
        SYSTEM_PROMPT,
        *(piece.strip() for prompt in prompts for piece in _FIELD.split(prompt)),
        *(question for wordings in QUESTIONS.values() for question in wordings),
        *THOUGHTS,
        IN_WORDS,
        *LEADS,
    }
    rng = np.random.default_rng(0)
    actions = ACTION_WORDS.values()
    items = [f" {item}" for item in (*LANDMARKS, *actions, *(words.capitalize() for words in actions))]
    parts = _route_parts(rng, _walks(), [*items, *(f" {turn}" for turn in TURNS)])
    longer = {phrase for phrase in sentences | parts if len(phrase) > 1}
    return [*TAGS, *_ROLES, *_LETTERS, *_JOINS, *sorted(longer), *items]


def _route_parts(rng: np.random.Generator, walks: Sequence[ClipTruth], items: Sequence[str]) -> set[str]:
    """What stays of the sentences of routes when panels, actions and turns are cut out."""
    item = re.compile("|".join(re.escape(text) for text in items))
    sentences = {
        sentence
        for walk in walks
        for way in WAYS
        for route in [tell_route(rng, walk, way)]
        for text in (route, without_point_names(route))
        for sentence in re.split(r"(?<=\.)(?= )", text)
    }
    return {part for sentence in sentences for part in item.split(sentence)}


def _walks() -> list[ClipTruth]:
    return [plan_clip(0, "train", number).truth for number in range(_CORPUS_WALKS)]
