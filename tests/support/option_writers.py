"""What a scripted server (`judge_server`) says in the place of a model that writes wrong options."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

from judge_server import Ask

from egost.tasks.chat.calls import Pacing

QUICK = Pacing(concurrency=4, timeout_s=20, tries=2, first_wait_s=0.01, longest_wait_s=0.02, breaker_s=0.0)


def told(ask: Ask) -> dict[str, Any]:
    """The question that the writer was asked."""
    return dict(json.loads(ask.body["messages"][-1]["content"]))


def good_reply(ask: Ask) -> str:
    """Three wrong options as a good writer gives them."""
    request = told(ask)
    right = request["right"]
    if request["kind"] == "direction":
        others = [list(words) for words in product(("left", "right", "around"), repeat=len(right))]
        wrong = [option for option in others if option != right][:3]
        wrong += [["up"] * len(right), ["down"] * len(right)][: 3 - len(wrong)]
    else:
        wrong = [[name, *right[1:]] for name in ("granite statue", "wooden fence", "glass tower")]
    return json.dumps({"right": right, "wrong": wrong})
