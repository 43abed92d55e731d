"""The table of known models, against the paper's Table 1, the installed lmms-eval and vLLM, and `egost models`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from places import ROOT
from typer.testing import CliRunner

from egost.main import app
from egost.model_adapters import known_models as table_module
from egost.model_adapters.api.api_engine import CallBound, Spending
from egost.model_adapters.engine import AdapterError
from egost.model_adapters.families import FAMILIES
from egost.model_adapters.known_models import known_model, known_models, unknown_model
from egost.model_adapters.model_names import model_named, weights_named
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.errors import SettingError

TABLE_1 = {
    "Openai-o3-mini": "o3-mini",
    "Gemini-2.0 Flash": "gemini-2.0-flash",
    "Gemini-1.5 Pro": "gemini-1.5-pro",
    "Qwen2-VL-7B": "qwen2-vl-7b",
    "InternVL2.5-8B": "internvl2.5-8b",
    "Qwen2.5-VL-7B": "qwen2.5-vl-7b",
    "InternVL2.5-78B": "internvl2.5-78b",
    "LLaVA-OneVision-7B": "llava-onevision-7b",
    "LLaVA-OneVision-72B": "llava-onevision-72b",
    "Qwen2.5-VL-72B": "qwen2.5-vl-72b",
}


def egost_models(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["models", *arguments])
    return done.exit_code, done.output


def test_the_papers_ten_models_and_its_own_are_there() -> None:
    assert {m.paper_row: m.name for m in known_models().models if m.paper_row} == {
        **TABLE_1,
        "ST-R1": "st-r1",
    }


def test_names_are_unique_and_each_model_is_found_by_both() -> None:
    models = known_models().models
    for model in models:
        assert model_named(model.name) is model
        assert model_named(model.model.upper()) is model
    assert len({m.name for m in models}) == len({m.model for m in models}) == len(models)


def test_what_cannot_be_had_has_no_engine_and_says_why() -> None:
    gone = {m.name: m.availability for m in known_models().models if not m.engines}
    assert gone == {"o3-mini": "no image input", "gemini-2.0-flash": "retired", "gemini-1.5-pro": "retired"}
    assert all(model_named(name).note for name in gone)


def test_open_models_have_what_they_take() -> None:
    for model in known_models().models:
        is_open = model.availability == "open"
        assert is_open == bool(model.parameters) == bool(model.architecture) == ("/" in model.model)
        assert "vllm" in model.engines or not is_open
        assert is_open or model.revision is None


def test_the_price_of_each_closed_model_is_known() -> None:
    """So that `max_usd` can be kept for each that can be had."""
    closed = [model for model in known_models().models if model.availability == "api"]
    assert len(closed) >= 4
    for model in closed:
        assert Spending(model.model, max_usd=1.0).hold(CallBound(1000, 100, 100)) or pytest.fail(model.model)


def test_frames_are_the_papers() -> None:
    """224 x 224 for closed models, one tile of 448 x 448 for InternVL (appendix A.2); ST-R1 as its authors run it."""
    for model in known_models().models:
        size = parse_protocol(model.protocol).size
        closed, tile = (224, 224), (448, 448)
        sizes = {"openai": closed, "gemini": closed, "internvl_chat": tile, "internvl": tile}
        assert size == sizes.get(model.family)
    st_r1 = model_named("st-r1")
    assert (st_r1.prompt, parse_protocol(st_r1.protocol).max_pixels) == ("think", 360 * 420)


def test_memory_and_gpus() -> None:
    seven = model_named("qwen2-vl-7b")
    assert seven.weights_gib == pytest.approx(8.29e9 * 2 / 2**30)
    assert seven.memory_gib and seven.weights_gib and 1.2 * seven.weights_gib < seven.memory_gib < 24
    assert seven.gpus == 1
    big = model_named("qwen2.5-vl-72b")
    assert big.memory_gib and big.gpus == 4
    assert big.memory_gib < big.gpus * 0.9 * 80e9 / 2**30
    assert model_named("gpt-4o").memory_gib is model_named("gpt-4o").gpus is None


def test_each_family_is_one_that_the_engines_know() -> None:
    assert set(known_models().families) - {"openai", "gemini"} <= set(FAMILIES)


def test_each_hf_adapter_is_one_of_lmms_evals() -> None:
    from lmms_eval.models import get_model_manifest

    for family in known_models().families.values():
        if family.hf_adapter:
            assert get_model_manifest(family.hf_adapter).simple_class_path


def test_each_architecture_is_in_the_installed_vllm() -> None:
    registry = pytest.importorskip("vllm.model_executor.models.registry", reason="vLLM is not installed here")
    known = registry.ModelRegistry.get_supported_archs()
    assert {f.architecture for f in known_models().families.values() if f.architecture} <= set(known)


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    assert re.search(
        r"'Qwen/Qwen2\.5VL-7B' is no known model.*qwen2\.5-vl-7b", str(unknown_model("Qwen/Qwen2.5VL-7B"))
    )
    with pytest.raises(AdapterError, match=r"hf download Qwen/Qwen2\.5VL-7B"):
        model_named("Qwen/Qwen2.5VL-7B")
    code, output = egost_models("qwen25-vl-7b")
    assert code == 2 and "Did you mean qwen2.5-vl-7b" in output and "Traceback" not in output


def test_the_list_can_be_read_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    code, output = egost_models()
    assert code == 0
    for model in known_models().models:
        assert re.search(rf"^{re.escape(model.name)} +{re.escape(model.model)} ", output, re.MULTILINE)
        assert not model.note or f"{model.name}: {model.note}" in output
    [st_r1] = [line for line in output.splitlines() if line.startswith("st-r1 ")]
    assert "not pinned" in st_r1 and "think" in st_r1 and "uniform8+cap151200" in st_r1


def test_what_can_be_run_comes_first_and_what_cannot_last() -> None:
    output = egost_models()[1]
    rows = [line.split()[0] for line in output.splitlines() if " uniform8" in line]
    runnable = [bool(model_named(name).engines) for name in rows]
    assert runnable == sorted(runnable, reverse=True) and not all(runnable)
    assert "mini-base" in output, "what a newcomer can run at once"


@pytest.mark.parametrize(
    ("name", "tasks", "following"),
    [
        ("st-r1", "egost_mcq", "EGOST_TRAINED_ON=leave-out egost run st-r1 --dry-run"),
        ("qwen2.5-vl-7b", "egost", "egost run qwen2.5-vl-7b --dry-run"),
        ("mini-base", "egost_mini", "egost run mini-base --dry-run"),
        ("mini-st-r1", "egost_mini", "egost run mini-st-r1 --dry-run"),
        ("tiny", "egost_mini", "egost run tiny --dry-run"),
    ],
)
def test_the_command_that_is_suggested_fits_what_is_said_of_the_model(
    name: str, tasks: str, following: str
) -> None:
    output = egost_models(name)[1]
    assert f"tasks: {tasks}\n" in output
    assert f"Next: {following}\n" in output


def test_one_model_as_json_and_as_text() -> None:
    code, output = egost_models("qwen2.5-vl-7b", "--format", "json")
    facts = json.loads(output)
    assert code == 0 and facts["model"] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert facts["engines"] == ["vllm", "server", "hf", "transformers"] and facts["gpus_80gb"] == 1
    assert facts["revision"] == model_named("qwen2.5-vl-7b").revision
    assert "revision: not pinned" in egost_models("st-r1")[1]
    assert len(json.loads(egost_models("--format", "json")[1])) == len(known_models().models)


@pytest.mark.parametrize("name", ["mini-base", "mini-st-r1", "tiny"])
def test_a_checkpoint_of_the_package(name: str) -> None:
    done = CliRunner().invoke(app, ["models", name, "--format", "json"])
    facts = json.loads(done.stdout)
    assert done.exit_code == 0 and (facts["name"], facts["family"]) == (name, "qwen2_vl")
    assert (Path(facts["model"]) / "model.safetensors").is_file()
    assert weights_named(name) == (facts["model"], None)
    assert facts["prompt"] == ("think" if name == "mini-st-r1" else "direct")


def test_what_each_name_stands_for(tmp_path: Path) -> None:
    pinned = known_model("qwen2-vl-7b")
    assert pinned and weights_named("QWEN2-VL-7B") == (pinned.model, pinned.revision)
    assert weights_named(pinned.model) == (pinned.model, pinned.revision)
    assert weights_named("someone/else") == ("someone/else", None)
    assert weights_named(str(tmp_path)) == (str(tmp_path), None)
    with pytest.raises(AdapterError, match=r"'qwen2vl-7b' is no known model\. Did you mean qwen2-vl-7b"):
        weights_named("qwen2vl-7b")
    with pytest.raises(AdapterError, match="gpt-4o has no weights to load"):
        weights_named("gpt-4o")


def test_a_table_with_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(SettingError, match="no sampling protocol"):
        table_module.ModelFamily(protocol="every-frame")


def test_the_table_goes_into_the_wheel() -> None:
    setup = (ROOT / "setup.cfg").read_text()
    assert "egost.model_adapters = py.typed, *.yaml" in setup
