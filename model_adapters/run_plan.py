"""Which lmms-eval command, under which settings, evaluates a model: what `egost run` prints and then runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.embedded import EMBEDDED
from egost.model_adapters.engine import AdapterError
from egost.model_adapters.known_models import (
    EngineName,
    KnownModel,
    UnknownModelError,
    find_model,
    known_models,
)
from egost.model_adapters.tiny_checkpoint import tiny_checkpoint
from egost.tasks.errors import ReleaseError
from egost.tasks.prompts import SHIPPED
from egost.tasks.registration import ONLY_OURS
from egost.tasks.release.trained_on import MANIFEST, read_manifest

TINY = "tiny"
"""Name of the untrained checkpoint, which is no known model: nobody's figures are compared with its."""


class RunPlanError(AdapterError):
    """A model cannot be run, or not in the way that was asked for."""


@dataclass(frozen=True)
class RunPlan:
    """A command of lmms-eval.

    adapter, model_args, device: its `--model`, `--model_args` and `--device`, which the command holds. settings: of its
    environment, beside what is there. output: its `--output_path`.
    """

    command: tuple[str, ...]
    adapter: str
    model_args: str
    device: str | None
    settings: Mapping[str, str]
    output: Path

    @property
    def shown(self) -> str:
        """The command as a person would type it."""
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.settings.items()]
        return " ".join([*settings, "lmms-eval", *map(shlex.quote, self.command[1:])])


@dataclass(frozen=True)
class RunOptions:
    """How a model is to be run.

    tasks: as `--tasks` takes them. engine: None is the model's first. limit: samples a task, or a part of
    them below 1. output: None is `runs/NAME`. fresh: ask for all, whatever the journal holds. base_url: of a server,
    or of an API. extra: further arguments of lmms-eval.
    """

    tasks: str
    engine: str | None = None
    limit: float | None = None
    output: Path | None = None
    fresh: bool = False
    base_url: str | None = None
    extra: Sequence[str] = ()


def model_named(name: str) -> KnownModel:
    """The known model of a name; else what a checkpoint's own config says: a folder, or a hub id on this disk.

    A checkpoint that was trained here is asked with the prompt that it was trained with.

    Raises UnknownModelError where it is neither, AdapterError where the checkpoint cannot be read or is of a family
    that nobody has said how to ask.
    """
    if name == TINY:
        return _of_checkpoint(str(tiny_checkpoint()), TINY).model_copy(update={"protocol": "uniform8"})
    if name in EMBEDDED:
        return _of_checkpoint(str(EMBEDDED[name]), name).model_copy(update={"protocol": "uniform8"})
    try:
        return find_model(name)
    except UnknownModelError:
        if not Path(name).expanduser().is_dir() and "/" not in name:
            raise
    return _of_checkpoint(name, Path(name).name)


def plan_run(model: KnownModel, options: RunOptions, environment: Mapping[str, str]) -> RunPlan:
    """The command for a model. environment: settings of the person, which win over those of the table.

    Raises RunPlanError where the model cannot be had, or not by this engine; AdapterError where its checkpoint is
    asked for and is not on this disk.
    """
    engine = _engine(model, options)
    adapter, arguments = _adapter(model, engine, options.base_url)
    device = None
    if engine == "hf" and not _has_gpu():
        arguments["device_map"] = device = "cpu"
    if options.fresh:
        arguments["fresh"] = "True"
    unusable = {name: value for name, value in arguments.items() if "," in value or "=" in value}
    if unusable:
        raise RunPlanError(
            f"lmms-eval parts its model_args at commas and '=', so that {unusable} cannot be given. Rename the folder."
        )
    output = options.output or Path("runs") / model.name
    model_args = ",".join(f"{name}={value}" for name, value in arguments.items())
    limit = [] if options.limit is None else ["--limit", f"{options.limit:g}"]
    command = [
        *(str(Path(sys.executable).with_name("lmms-eval")), "--tasks", options.tasks, "--model", adapter),
        *("--model_args", model_args, *(["--device", device] if device else [])),
        *("--batch_size", "1", "--output_path", str(output), "--log_samples", *limit, *options.extra),
    ]
    wanted = {"EGOST_PROMPT": model.prompt, "EGOST_PROTOCOL": model.protocol}
    settings = {name: environment.get(name) or value for name, value in wanted.items()}
    if all(task.startswith("egost") for task in options.tasks.split(",")):
        settings[ONLY_OURS] = "1"
    return RunPlan(tuple(command), adapter, model_args, device, settings, output)


def _of_checkpoint(name_or_folder: str, short: str) -> KnownModel:
    checkpoint = checkpoint_identity(name_or_folder)
    family = known_models().families.get(checkpoint.model_type)
    if family is None:
        raise RunPlanError(
            f"{name_or_folder} is a '{checkpoint.model_type}', and how that is to be asked is not known here; expected "
            f"one of {', '.join(known_models().families)}. Run lmms-eval with an adapter of its own for it."
        )
    return KnownModel(
        name=short,
        model=name_or_folder,
        family=checkpoint.model_type,
        **{**family.model_dump(mode="python"), **_as_taught(checkpoint.folder)},
    )


def _as_taught(folder: Path) -> dict[str, str]:
    """The prompt that a checkpoint of this project was trained with, where it is one of those that ship."""
    try:
        prompt = read_manifest(folder / MANIFEST).content["settings"]["prompt"]
    except (ReleaseError, KeyError, TypeError):
        return {}  # Not trained here; a broken manifest is refused when the tasks are read.
    return {"prompt": prompt} if prompt in SHIPPED else {}


def _engine(model: KnownModel, options: RunOptions) -> EngineName:
    if not model.engines:
        raise RunPlanError(f"{model.name} cannot be run: {model.availability}. {model.note}")
    if options.engine is None:
        if model.name in (TINY, *EMBEDDED):
            return "hf"  # Whoever tries this out may have no vLLM.
        return "server" if options.base_url and "server" in model.engines else model.engines[0]
    if options.engine in model.engines:
        return options.engine
    raise RunPlanError(
        f"{model.name} is not run by engine '{options.engine}'; expected {' or '.join(model.engines)}."
    )


def _adapter(model: KnownModel, engine: EngineName, base_url: str | None) -> tuple[str, dict[str, str]]:
    url = {} if base_url is None else {"base_url": base_url}
    if engine == "api":
        return f"egost_{model.family}", {"model": model.model, **url}
    if engine == "server":
        if not url:
            raise RunPlanError(
                f"which server has {model.name}? Start one with `egost serve {model.name}`, then add "
                "--base-url http://127.0.0.1:8000 (several with ';' between them)."
            )
        folder = Path(model.model).expanduser()
        return "egost_server", {**url, "model": folder.resolve().name if folder.is_dir() else model.model}
    if url:
        raise RunPlanError(f"engine {engine} takes no --base-url. Leave it out, or take --engine server.")
    if engine == "vllm":
        pinned = {"revision": model.revision} if model.revision else {}
        split = {"tensor_parallel_size": str(model.gpus)} if model.gpus and model.gpus > 1 else {}
        remote = {"trust_remote_code": "True"} if model.trust_remote_code else {}
        return "egost_vllm", {"model": model.model, **pinned, **split, **remote}
    assert model.hf_adapter is not None
    # lmms-eval's adapters take no revision, so the pinned one is given as the folder that holds it.
    folder = checkpoint_identity(model.model, model.revision).folder
    numbers = {name: str(value) for name, value in model.hf_arguments.items()}
    return "egost_journal", {"adapter": model.hf_adapter, "pretrained": str(folder), **numbers}


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())
