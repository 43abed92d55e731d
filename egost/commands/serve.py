"""`egost serve`: vLLM's server with the arguments that the protocol needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from egost.commands.front import says_what_to_do
from egost.tasks.cache import cache_root


@says_what_to_do
def serve(
    model: Annotated[
        str, typer.Argument(help="A name of `egost models`, a hub id, a checkpoint's folder, or tiny.")
    ],
    extra: Annotated[list[str] | None, typer.Argument(help="After `--`: more arguments for vLLM.")] = None,
    gpus: Annotated[
        int | None, typer.Option(help="Number of GPUs; by default enough for one copy.", min=1)
    ] = None,
    tensor_parallel: Annotated[int | None, typer.Option(help="GPUs that split each layer.", min=1)] = None,
    pipeline_parallel: Annotated[
        int | None, typer.Option(help="Groups of layers, each on GPUs of its own.", min=1)
    ] = None,
    data_parallel: Annotated[int | None, typer.Option(help="Copies of the model.", min=1)] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a hub id.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.", min=1, max=65535)] = 8000,
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")] = "auto",
    max_model_len: Annotated[
        int | None, typer.Option(help="Most tokens of prompt and response together.", min=1)
    ] = None,
    media: Annotated[
        Path | None, typer.Option(help="Folder of clips that the server may read; by default the cache's.")
    ] = None,
    rollouts: Annotated[
        bool, typer.Option("--rollouts", help="Sample for `egost train grpo`, which changes the weights.")
    ] = False,
    weights: Annotated[
        Literal["folder", "nccl", "ipc"] | None,
        typer.Option(
            help="How a server for rollouts takes weights: over NCCL from other GPUs (default with a GPU), by ipc from "
            "the GPU that it shares with the training, or from a folder on a shared disk (default on a CPU)."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait until the server is healthy.", min=1)
    ] = 1800,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command and start nothing.")] = False,
) -> None:
    """Serve a model with vLLM until Ctrl-C, and say how to evaluate it, or train with it."""
    from egost.model_adapters.server.serve import (
        evaluate_command,
        in_shell,
        plan_server,
        serve_command,
        serve_environment,
        train_flags,
    )

    plan = plan_server(
        model,
        gpus=gpus,
        tensor=tensor_parallel,
        pipeline=pipeline_parallel,
        data=data_parallel,
        revision=revision,
        host=host,
        port=port,
        dtype=dtype,
        max_model_len=max_model_len,
        media=media,
        rollouts=rollouts,
        weights=weights,
        extra=extra or (),
    )
    command, environment = serve_command(plan), serve_environment(plan)
    following = f"egost train grpo CONFIG {train_flags(plan)}" if rollouts else evaluate_command(plan)
    typer.echo(in_shell(command, environment))
    if rollouts and host not in ("127.0.0.1", "localhost"):
        _say(
            f"anyone who can connect to {plan.url} can replace its weights: a server for rollouts takes them from all"
        )
    if dry_run:
        typer.echo(f"then: {following}", err=True)
        return

    from egost.model_adapters.server.server_process import ServerProcess, check_port, end_like_ctrl_c
    from egost.model_adapters.vllm_engine import vllm_version

    vllm_version()
    check_port(host, port)
    plan.media.mkdir(parents=True, exist_ok=True)
    end_like_ctrl_c()
    os.environ.update(environment)
    log = cache_root() / "serve" / f"{port}.log"
    try:
        with ServerProcess(command, plan.local_url, log, _say) as server:
            _say(f"vLLM starts as process {server.pid}; its log is {log}")
            seconds = server.wait_until_healthy(timeout)
            _say(
                f"{plan.name} is served at {plan.url} after {seconds:.0f} s; Ctrl-C ends it. "
                f"{'Train' if rollouts else 'Evaluate it'} with:"
            )
            typer.echo(following)
            server.wait()
    except KeyboardInterrupt:
        _say("the server is stopped")
        raise typer.Exit(130) from None


def _say(text: str) -> None:
    typer.echo(f"egost: {text}", err=True)
