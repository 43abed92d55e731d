"""The lmms-eval command and its settings that evaluate a model: what `egost run` prints and then runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError
from egost.model_adapters.known_models import EngineName, KnownModel
from egost.model_adapters.model_names import EMBEDDED
from egost.tasks.as_published import AS_PUBLISHED, departures
from egost.tasks.clips.protocols import DEFAULT_PROTOCOL, N_FRAMES, parse_protocol
from egost.tasks.keys import OTHER_KEY, SERVER_KEY, check_arguments, check_url
from egost.tasks.provenance import machine
from egost.tasks.registration import ONLY_OURS


@dataclass(frozen=True)
class RunPlan:
    """A command of lmms-eval.

    adapter, model_args, device: its `--model`, `--model_args` and `--device`, which the command holds. settings: added
    to its environment. output: its `--output_path`. remarks: what a person has to know before it starts.
    """

    command: tuple[str, ...]
    adapter: str
    model_args: str
    device: str | None
    settings: Mapping[str, str]
    output: Path
    remarks: tuple[str, ...]

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
    or of an API. extra: further arguments of lmms-eval. as_published: with the authors' settings instead of our own.
    batch_size: requests at once; None is what suits the engine. settings: given on the command line, they win over the
    environment's. without_weights: the checkpoint need not be on this disk; its hub id stands for its folder.
    draws: seeds that are asked for, from the run's own on.
    """

    tasks: str
    engine: str | None = None
    limit: float | None = None
    output: Path | None = None
    fresh: bool = False
    base_url: str | None = None
    extra: Sequence[str] = ()
    as_published: bool = False
    batch_size: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    without_weights: bool = False
    draws: int = 1


BATCH_SIZES: Mapping[EngineName, int] = {"hf": 8}
"""Requests at once where it pays; the other engines fill their batches themselves.

In 32 bits on a CPU lmms-eval's adapter answered 8 at once as one by one: mini-base, 16 samples of each of the eight
mini tasks, 128 of 128 texts alike. In bfloat16 on a GPU, where padding can move a near tie, it was not compared."""


def plan_run(model: KnownModel, options: RunOptions, environment: Mapping[str, str]) -> RunPlan:
    """The command for a model. environment: settings of the person, which win over those of the table.

    Raises AdapterError where the model cannot be had, or not by this engine, or its checkpoint is needed and is not on
    this disk.
    """
    check_arguments(options.extra, AdapterError)
    engine = _engine(model, options)
    environment = {**environment, **options.settings}
    settings, remarks = _settings(model, options, environment)
    settings |= options.settings
    protocol = settings.get("EGOST_PROTOCOL") or environment.get("EGOST_PROTOCOL") or DEFAULT_PROTOCOL
    adapter, arguments = _adapter(model, engine, options, protocol)
    device = None
    if engine == "hf" and not _has_gpu():
        arguments["device_map"] = device = "cpu"
    if options.fresh:
        arguments["fresh"] = "True"
    if options.draws > 1:
        arguments["draws"] = str(options.draws)
    unusable = {name: value for name, value in arguments.items() if "," in value or "=" in value}
    if unusable:
        raise AdapterError(
            f"lmms-eval splits its model_args at commas and '=', so {unusable} cannot be given. Rename the folder."
        )
    output = options.output or Path("runs") / model.name
    if "," in str(output):
        raise AdapterError(
            f"lmms-eval splits --output_path at commas, so that no results would be saved in {output}. Name another "
            "folder with --output."
        )
    model_args = ",".join(f"{name}={value}" for name, value in arguments.items())
    limit = [] if options.limit is None else ["--limit", f"{options.limit:g}"]
    command = [
        *(str(Path(sys.executable).with_name("lmms-eval")), "--tasks", options.tasks, "--model", adapter),
        *("--model_args", model_args, *(["--device", device] if device else [])),
        *(
            "--batch_size",
            str(options.batch_size or BATCH_SIZES.get(engine, 1)),
            "--output_path",
            _as_path(output),
            "--log_samples",
            *limit,
            *options.extra,
        ),
    ]
    if all(task.strip().startswith("egost") for task in options.tasks.split(",")):
        settings[ONLY_OURS] = "1"
    return RunPlan(tuple(command), adapter, model_args, device, settings, output, remarks)


def _settings(
    model: KnownModel, options: RunOptions, environment: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The settings of a run, and what is to be said of those that the person has set otherwise."""
    word = environment.get(AS_PUBLISHED) or (model.as_published if options.as_published else None)
    if word:
        changed = departures(word, environment)
        return {AS_PUBLISHED: word}, tuple(
            f"{name}={environment[name]} is used, as you set it, and not {value}, so that the run does not count as "
            "published."
            for name, value in changed.items()
        )
    if options.as_published:
        raise AdapterError(
            f"the authors asked no model of the family {model.family}, so that nobody knows how {model.name} would be "
            "asked as published. Leave --as-published out."
        )
    wanted = {"EGOST_PROMPT": model.prompt, "EGOST_PROTOCOL": model.protocol}
    settings = {name: environment.get(name) or value for name, value in wanted.items()}
    return settings, tuple(
        f"{name}={settings[name]} is used, as you set it; {model.name} was trained with {own}."
        for name, own in wanted.items()
        if model.as_trained and settings[name] != own
    )


def _as_path(output: Path) -> str:
    """A folder as lmms-eval takes it for one: `8`, `1e3` or `true` would be a number or a truth, and save nothing."""
    with suppress(ValueError):
        float(str(output))
        return f"./{output}"
    return f"./{output}" if str(output).lower() in ("true", "false") else str(output)


def _engine(model: KnownModel, options: RunOptions) -> EngineName:
    if not model.engines:
        raise AdapterError(f"{model.name} cannot be run: {model.availability}. {model.note}")
    if options.engine is None:
        if model.name in EMBEDDED:
            # Both work without vLLM. lmms-eval's own adapter imports decord, which has no wheel for ARM.
            return "hf" if find_spec("decord") else "transformers"
        return "server" if options.base_url and "server" in model.engines else model.engines[0]
    if options.engine == "hf" in model.engines and not find_spec("decord"):
        raise AdapterError(
            f"lmms-eval's adapter {model.hf_adapter} imports decord, which is not installed and has no wheel for ARM. "
            "Take --engine transformers."
        )
    if options.engine in model.engines:
        return options.engine
    raise AdapterError(
        f"{model.name} is not run by engine '{options.engine}'; expected {' or '.join(model.engines)}."
    )


def _adapter(
    model: KnownModel, engine: EngineName, options: RunOptions, protocol: str
) -> tuple[str, dict[str, str]]:
    base_url = options.base_url
    url = {} if base_url is None else {"base_url": base_url}
    for each in (base_url or "").split(";"):
        if each:
            check_url(each.strip(), "--base-url", OTHER_KEY if engine == "api" else SERVER_KEY, AdapterError)
    if engine == "api":
        return f"egost_{model.family}", {"model": model.model, **url}
    if engine == "server":
        if not url:
            raise AdapterError(
                f"which server has {model.name}? Start one with `egost serve {model.name}`, then add "
                "--base-url http://127.0.0.1:8000 (several with ';' between them)."
            )
        folder = Path(model.model).expanduser().resolve()
        if not folder.is_dir():
            return "egost_server", {**url, "model": model.model}
        return "egost_server", {**url, "model": folder.name, "checkpoint": str(folder)}
    if url:
        raise AdapterError(f"engine {engine} takes no --base-url. Leave it out, or take --engine server.")
    pinned = {"revision": model.revision} if model.revision else {}
    if engine == "transformers":
        return "egost_transformers", {"model": model.model, **pinned}
    if engine == "vllm":
        split = {"tensor_parallel_size": str(model.gpus)} if model.gpus and model.gpus > 1 else {}
        remote = {"trust_remote_code": "True"} if model.trust_remote_code else {}
        return "egost_vllm", {"model": model.model, **pinned, **split, **remote}
    assert model.hf_adapter is not None
    # lmms-eval's adapters take no revision, so the pinned one is given as the folder that holds it.
    try:
        pretrained = str(checkpoint_identity(model.model, model.revision).folder)
    except AdapterError:
        if not options.without_weights:
            raise
        pretrained = model.model
    numbers = {name: str(value) for name, value in model.hf_arguments.items()}
    if (frames := parse_protocol(protocol).n_frames) != N_FRAMES:
        numbers["max_num_frames"] = str(frames)
    return "egost_journal", {"adapter": model.hf_adapter, "pretrained": pretrained, **numbers}


def _has_gpu() -> bool:
    """Whether the installed torch has a GPU; torch itself takes seconds to import."""
    try:
        return bool(machine()["gpus"]) and "+cpu" not in version("torch")
    except PackageNotFoundError:
        return False
