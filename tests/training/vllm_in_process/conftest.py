"""Training with the real vLLM on a CPU: skipped where it is not installed (`make test-vllm`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_adapters.asking import AdapterError
from model_adapters.vllm_engine import vllm_version

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    try:
        vllm_version()
    except AdapterError as error:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=str(error)))
