from __future__ import annotations

import json

import pytest

from egost.model_adapters.server.server_api import Encoded, pieces_of

PART = {"type": "video_url", "video_url": {"url": 'data:video/jpeg;base64,AAAA","BBBB'}}


@pytest.mark.parametrize(
    "prompt",
    ["Which way?", 'She said "left"\n\\', "左へ曲がる 🚶", "", '"}]}', "\x00", "egost"],
)
@pytest.mark.parametrize("count", [0, 1, 8])
def test_a_part_that_is_encoded_is_sent_as_it_is_and_not_copied(prompt: str, count: int) -> None:
    encoded = Encoded(json.dumps(PART).encode())
    text = {"type": "text", "text": prompt}
    body = {"model": "m", "messages": [{"role": "user", "content": [*[encoded] * count, text]}], "n": 1}
    pieces = pieces_of(body)
    assert [piece is encoded.json for piece in pieces] == [bool(i % 2) for i in range(2 * count + 1)]
    assert json.loads(b"".join(pieces)) == {
        **body,
        "messages": [{"role": "user", "content": [*[PART] * count, text]}],
    }
