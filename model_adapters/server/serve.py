"""How `egost serve` starts vLLM: the command by which the protocol's frames arrive unaltered.

plan = plan_server("qwen2.5-vl-7b", gpus=8)
serve_command(plan)       # ["vllm", "serve", "Qwen/Qwen2.5-VL-7B-Instruct", ...]
evaluate_command(plan)    # what to type next
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Literal

from egost.model_adapters.checkpoints import Checkpoint, checkpoint_identity
from egost.model_adapters.engine import AdapterError
from egost.model_adapters.families import (
    FAMILIES,
    FRAMES_A_SECOND,
    Family,
    config_overrides,
    processor_arguments,
)
from egost.model_adapters.known_models import KnownModel, gpus_that_hold, known_model
from egost.model_adapters.model_names import model_named, weights_named
from egost.model_adapters.server.server_api import ROLLOUTS, as_served_name
from egost.model_adapters.server.server_engine import AT_ONCE
from egost.model_adapters.vllm_engine import CPU_BLOCK, CPU_CACHE, context_length, frame_limits
from egost.tasks.cache import cache_root
from egost.tasks.clips.protocols import DEFAULT_PROTOCOL, parse_protocol
from egost.tasks.keys import SERVER_KEY, check_arguments, check_url, may_hold_secret
from egost.tasks.prompts import DEFAULT as DEFAULT_PROMPT

ANY_HOST = "0.0.0.0"

CHANGE_NO_REPLY = frozenset(
    re.findall(
        r"\S+",
        """
    --api-server-count --async-scheduling --block-size --cpu-offload-gb --data-parallel-address
    --data-parallel-backend --data-parallel-rank --data-parallel-rpc-port --data-parallel-size-local
    --data-parallel-start-rank --disable-log-stats --disable-uvicorn-access-log --download-dir
    --distributed-executor-backend --enable-chunked-prefill --enable-log-requests --enforce-eager
    --gpu-memory-utilization --headless --kv-cache-memory-bytes --log-config-file --master-addr --master-port
    --max-num-batched-tokens --max-num-seqs --max-parallel-loading-workers --mm-encoder-tp-mode
    --mm-processor-cache-gb --nnodes --node-rank --root-path --safetensors-load-strategy --skip-mm-profiling
    --trust-remote-code --uvicorn-log-level
    """,
    )
)
"""Further arguments of vLLM that only change how fast a reply comes. All others are recorded with each reply: what
is not known here may change it."""

_OURS = re.findall(
    r"\S+",
    """
    --model --served-model-name --revision --dtype --max-model-len --host --port --tensor-parallel-size -tp
    --pipeline-parallel-size -pp --data-parallel-size -dp --limit-mm-per-prompt --mm-processor-kwargs
    --media-io-kwargs --allowed-local-media-path --hf-overrides
    """,
)
"""Arguments that the plan sets; vLLM takes the second of two without a warning."""

# The probabilities that tokens are drawn with, which weight the loss; and the recipe's limit of pixels.
_FOR_ROLLOUTS = ("--logprobs-mode", "processed_logprobs", "--trust-request-mm-kwargs")
_TRANSFER = "--weight-transfer-config"
_SECRETS = ("--api-k", "--hf-t")
_LORA = ("--enable-lora", "--lora-modules", "--default-mm-loras")


Handover = Literal["folder", "nccl", "ipc"]
"""How a server for rollouts takes weights: from a folder of a shared disk, over NCCL from another GPU, or from the
memory of the GPU that it shares with the training."""


@dataclass(frozen=True)
class Parallel:
    """How GPUs share a model: tensor x pipeline of them hold one copy, data is the number of copies."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1


@dataclass(frozen=True)
class ServerPlan:
    """A server to be.

    source: hub id or folder, for vLLM. name: under which it is served. revision: commit of the hub or `sha256:` of
    the folder; None where it is not known. model_type: the family's name. media: folder whose files it may read.
    prompt, protocol: values of `EGOST_PROMPT` and `EGOST_PROTOCOL` that fit the model. rollouts: how a training that it
    samples for hands it weights; None where it samples for none. extra: more arguments of vLLM's, as they are.
    """

    source: str
    name: str
    revision: str | None
    model_type: str
    host: str
    port: int
    dtype: str
    max_model_len: int
    parallel: Parallel
    media: Path
    prompt: str
    protocol: str
    trust_remote_code: bool
    rollouts: Handover | None
    extra: tuple[str, ...]

    @property
    def family(self) -> Family:
        return FAMILIES[self.model_type]

    @property
    def url(self) -> str:
        """Where the server is to be reached, from other machines too where it listens to them."""
        return f"http://{socket.gethostname() if self.host == ANY_HOST else self.host}:{self.port}"

    @property
    def local_url(self) -> str:
        """Where the server is to be reached from this machine."""
        return f"http://{'127.0.0.1' if self.host == ANY_HOST else self.host}:{self.port}"


def plan_server(
    model: str,
    *,
    gpus: int | None = None,
    tensor: int | None = None,
    pipeline: int | None = None,
    data: int | None = None,
    revision: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    dtype: str = "auto",
    max_model_len: int | None = None,
    media: Path | None = None,
    rollouts: bool = False,
    weights: Handover | None = None,
    extra: Sequence[str] = (),
) -> ServerPlan:
    """The server for a short name, known, embedded or `tiny`, a hub id or a folder; None leaves a choice to the plan.

    gpus: as many as are to be used. As many of them as one copy of the model needs hold it together (tensor
    parallel), and there are as many copies as fit (data parallel), unless tensor, pipeline or data say otherwise.
    weights: how a server for rollouts takes them; by default over NCCL, and on a CPU from a folder.
    Raises AdapterError where the model or its family is not known, the GPUs cannot be shared out so, or the weights
    cannot be taken so.
    """
    known = known_model(model)
    if known and "server" not in known.engines:
        raise AdapterError(f"{known.name} cannot be served ({known.availability}). {known.note}".rstrip())
    source, pinned = weights_named(model)
    revision = revision or pinned
    checkpoint = _on_disk(source, revision, needed=known is None)
    model_type = checkpoint.model_type if checkpoint else known.family if known else ""
    if model_type not in FAMILIES:
        raise AdapterError(
            f"{model} is a '{model_type}', and how that takes frames is not known here; expected one of "
            f"{', '.join(FAMILIES)}."
        )
    folder = Path(source).is_dir()
    asked = known or model_named(model, revision)
    protocol = os.environ.get("EGOST_PROTOCOL") or asked.protocol
    if may_hold_secret(host):
        check_url(host, "--host", SERVER_KEY, AdapterError)
    return ServerPlan(
        source=str(Path(source).resolve()) if folder else source,
        name=checkpoint.name if checkpoint else source,
        revision=checkpoint.revision if checkpoint else revision,
        model_type=model_type,
        host=host,
        port=port,
        dtype=dtype,
        max_model_len=max_model_len or context_length(checkpoint, parse_protocol(protocol).n_frames),
        parallel=share_gpus(model, _needed(known, checkpoint), gpus, tensor, pipeline, data),
        media=(media or cache_root() / "clips").expanduser().resolve(),
        prompt=asked.prompt,
        protocol=protocol,
        trust_remote_code=bool(known and known.trust_remote_code),
        rollouts=_handover(weights) if rollouts else None,
        extra=_checked(extra, (*_OURS, *_FOR_ROLLOUTS, _TRANSFER) if rollouts else _OURS),
    )


def share_gpus(
    model: str, needed: int, gpus: int | None, tensor: int | None, pipeline: int | None, data: int | None
) -> Parallel:
    """How the GPUs are shared out; needed: those that hold one copy. Raises AdapterError where it does not add up."""
    if tensor is None and pipeline is None:
        copy = Parallel(tensor=needed)
        if gpus is not None and gpus < needed * (data or 1):
            raise AdapterError(
                f"{model} needs about {needed} GPUs of 80 GB a copy, and {gpus} are given for {data or 1}. Give "
                "more, or say --tensor-parallel yourself where yours are larger or the weights are quantised."
            )
    else:
        copy = Parallel(tensor=tensor or 1, pipeline=pipeline or 1)
    a_copy = copy.tensor * copy.pipeline
    copies = data or (gpus or a_copy) // a_copy
    if gpus is not None and a_copy * copies != gpus:
        raise AdapterError(
            f"{gpus} GPUs cannot be shared out as {copies} copies of {model} on {a_copy} GPUs each. Fix --gpus, "
            "--tensor-parallel, --pipeline-parallel or --data-parallel."
        )
    return Parallel(copy.tensor, copy.pipeline, copies)


def serve_command(plan: ServerPlan) -> list[str]:
    """The command that starts vLLM; prefix caching and token counts on, frames neither sampled nor made smaller."""
    frames = parse_protocol(plan.protocol).n_frames
    video = {"num_frames": frames, "fps": int(FRAMES_A_SECOND)}
    remote = not Path(plan.source).is_dir()
    optional: dict[str, Any] = {
        "--revision": plan.revision if remote else None,
        "--tensor-parallel-size": plan.parallel.tensor if plan.parallel.tensor > 1 else None,
        "--pipeline-parallel-size": plan.parallel.pipeline if plan.parallel.pipeline > 1 else None,
        "--data-parallel-size": plan.parallel.data if plan.parallel.data > 1 else None,
        # Its default of 128 on a CPU shares little between short prompts.
        "--block-size": CPU_BLOCK if _is_cpu_build() and "--block-size" not in plan.extra else None,
        "--mm-processor-kwargs": _json(processor_arguments(plan.family, n_frames=frames)),
        "--hf-overrides": _json(config_overrides(plan.family)),
    }
    return [
        *_launcher(plan.source),
        *("--host", plan.host, "--port", str(plan.port)),
        *("--served-model-name", plan.name, as_served_name(_advertised(plan))),
        *("--dtype", plan.dtype, "--max-model-len", str(plan.max_model_len)),
        *(part for name, value in optional.items() if value is not None for part in (name, str(value))),
        *("--limit-mm-per-prompt", json.dumps(frame_limits(plan.family, None, frames))),
        *("--media-io-kwargs", json.dumps({"video": video})),
        *("--allowed-local-media-path", str(plan.media)),
        *("--enable-prefix-caching", "--enable-prompt-tokens-details"),
        *(["--trust-remote-code"] if plan.trust_remote_code else []),
        *(_FOR_ROLLOUTS if plan.rollouts else []),
        *([_TRANSFER, json.dumps({"backend": plan.rollouts})] if plan.rollouts in ("ipc", "nccl") else []),
        *plan.extra,
    ]


def serve_environment(plan: ServerPlan) -> dict[str, str]:
    """The variables that are added to vLLM's environment."""
    memory = "VLLM_CPU_KVCACHE_SPACE"
    environment = {memory: CPU_CACHE} if _is_cpu_build() and memory not in os.environ else {}
    # Every client of the server can then hand it weights.
    if plan.rollouts:
        environment["VLLM_SERVER_DEV_MODE"] = "1"
    if plan.rollouts == "ipc":  # what names the memory goes over as a pickle
        environment["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    return environment


def train_flags(plan: ServerPlan) -> str:
    """The flags of `egost train grpo` that let a server for rollouts sample."""
    return f"--use_vllm true --vllm_mode server --vllm_server_base_url {plan.url}"


def evaluate_command(plan: ServerPlan) -> str:
    """The lmms-eval command for the server, to be typed in a shell."""
    settings = {
        "EGOST_PROMPT": (plan.prompt, DEFAULT_PROMPT),
        "EGOST_PROTOCOL": (plan.protocol, DEFAULT_PROTOCOL),
    }
    chosen = [f"{name}={value}" for name, (value, default) in settings.items() if value != default]
    # As many requests at once for each copy as for a server of one.
    at_once = f",concurrency={AT_ONCE * plan.parallel.data}" if plan.parallel.data > 1 else ""
    return " ".join(
        [
            *chosen,
            "lmms-eval --tasks egost --model egost_server",
            f"--model_args base_url={plan.url}{at_once} --output_path runs --log_samples",
        ]
    )


def _handover(weights: Handover | None) -> Handover:
    if weights in ("ipc", "nccl") and _is_cpu_build():
        raise AdapterError(
            f"--weights {weights} goes from GPU to GPU, and the vLLM here is built for a CPU. Leave it out: weights "
            "then come from a folder of a disk that the training shares."
        )
    return weights or ("folder" if _is_cpu_build() else "nccl")


def _json(arguments: dict[str, Any]) -> str | None:
    return json.dumps(arguments) if arguments else None


def _on_disk(source: str, revision: str | None, *, needed: bool) -> Checkpoint | None:
    try:
        return checkpoint_identity(source, revision)
    except AdapterError:
        if needed:
            raise
        return None


def _needed(known: KnownModel | None, checkpoint: Checkpoint | None) -> int:
    if known and known.gpus:
        return known.gpus
    weights = [] if checkpoint is None else checkpoint.folder.glob("*.safetensors")
    return gpus_that_hold(sum(path.stat().st_size for path in weights) / 2**30)


def _checked(extra: Sequence[str], ours: Sequence[str]) -> tuple[str, ...]:
    given = {name for name, _ in _arguments(extra)}
    # argparse takes a name's beginning for it.
    if any(name.startswith(_SECRETS) for name in given):
        raise AdapterError(
            "a key on a command line can be read by everyone on the machine. Set VLLM_API_KEY for the server and "
            "EGOST_SERVER_API_KEY for the evaluation; HF_TOKEN for the hub."
        )
    check_arguments(extra, AdapterError)
    if given & set(_LORA):
        raise AdapterError(
            "an adapter (LoRA) cannot be served with its base model: replies are recorded under the base model's "
            "revision. Merge it into the base model, and serve the folder."
        )
    if clash := sorted(given & set(ours)):
        raise AdapterError(
            f"{', '.join(clash)} cannot be given after `--`: egost serve sets it. See egost serve --help."
        )
    return tuple(extra)


def _advertised(plan: ServerPlan) -> dict[str, str]:
    settings = {"family": plan.model_type, "dtype": plan.dtype}
    if plan.revision:
        settings["revision"] = plan.revision
    if plan.rollouts:
        settings[ROLLOUTS] = plan.rollouts
    for name, values in _arguments(plan.extra):
        if name not in CHANGE_NO_REPLY:
            settings[name.lstrip("-")] = " ".join(map(_with_content, values))
    return settings


def _arguments(extra: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each argument with its values. vLLM takes `--max_model_len` for `--max-model-len`, and so is it read here."""
    found: list[tuple[str, list[str]]] = []
    for part in extra:
        if re.match("--?[a-zA-Z]", part):
            name, given, value = part.partition("=")
            found.append((name.replace("_", "-"), [value] if given else []))
        elif found:
            found[-1][1].append(part)
    return found


def _with_content(value: str) -> str:
    """A value as it is recorded: a file (a chat template) with what is in it, which may change under its name."""
    if not Path(value).is_file():
        return value
    return f"{value} sha256:{hashlib.sha256(Path(value).read_bytes()).hexdigest()}"


def _launcher(source: str) -> list[str]:
    if _is_cpu_build():
        # The `vllm` command looks for a distribution of that name, which the build for CPUs is not.
        return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", source]
    here = Path(sys.executable).with_name("vllm")
    return [str(here) if here.is_file() else "vllm", "serve", source]


def _is_cpu_build() -> bool:
    return _installed("vllm-cpu") and not _installed("vllm")


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def in_shell(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """A command as it can be typed in a shell, one argument and its value a line."""
    quoted = [*(f"{name}={value}" for name, value in environment.items()), *map(shlex.quote, command)]
    lines: list[str] = []
    for part in quoted:
        if lines and not part.startswith("--"):
            lines[-1] += f" {part}"
        else:
            lines.append(part)
    return " \\\n  ".join(lines)
