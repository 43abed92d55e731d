"""The `--model_args` of our adapters: what is wrong with them is said in one message."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from scripted_engine import ScriptedEngine

from egost.model_adapters.engine import AdapterError

if TYPE_CHECKING:
    from egost.model_adapters.adapter import EngineModel


def adapter() -> type[EngineModel]:
    """An adapter whose model may not be there."""
    from egost.model_adapters.adapter import EngineModel

    class Adapter(EngineModel):
        def __init__(
            self, model: str, limit: int = 3, batch_size: int | None = None, fresh: bool = False
        ) -> None:
            if model == "nobody":
                raise AdapterError("there is no model 'nobody'")
            super().__init__(ScriptedEngine(), fresh=fresh)

    return Adapter


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "model=x,modle=y",
            "egost: Adapter does not know modle; its model_args are model, limit, batch_size, fresh. Fix",
        ),
        ("limit=4", "egost: Adapter needs model; its model_args are"),
        ("nobody", "not of the form NAME=VALUE"),
        ("model=nobody", "egost: there is no model 'nobody'"),
    ],
)
def test_wrong_model_args(arguments: str, message: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(message)):
        adapter().create_from_arg_string(arguments, {"batch_size": 1, "device": None})
    assert adapter().create_from_arg_string("model=x", {"batch_size": 1, "max_batch_size": None})
