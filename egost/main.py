"""The `egost` command: its help, and which function each sub-command calls."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from egost.commands import (
    agree,
    cache,
    clips,
    compare,
    construct,
    data,
    demo,
    diagnose,
    env,
    judge,
    label,
    leaderboard,
    models,
    parity,
    power,
    prompts,
    regress,
    report,
    rescore,
    run,
    serve,
    show,
    summary,
    sweep,
    tasks,
    tiny,
    train,
    verify,
)
from egost.tasks.settings import help_lines

GROUPS = {
    "Start": "demo env data clips cache models tasks prompts tiny",
    "Evaluate": "run serve judge rescore",
    "Believe": "summary show report diagnose parity",
    "Compare": "compare sweep power leaderboard verify",
    "Train": "train",
    "Build": "construct",
    "Maintain": "regress",
}
"""The commands, as `egost --help` groups them: one line a group."""

_HELP = f"""Usage: egost COMMAND ...        Options: -h, --version, --install-completion
Ego-ST Bench and ST-R1, evaluated with the plain lmms-eval command.

  egost demo                              try it: no GPU, no key, no network
  egost run qwen2.5-vl-7b --dry-run       what a real run takes, what is missing
  egost report runs/qwen2.5-vl-7b         one page with every sample of that run

{chr(10).join(f"{name:<9} {commands}" for name, commands in GROUPS.items())}

The help of each command begins with an example: egost run --help
Settings are environment variables; egost env --all explains all of them:
  {f"{chr(10)}  ".join(help_lines())}"""

EXAMPLES = {
    "demo": "egost demo",
    "data download": "egost data download",
    "data status": "egost data status --mini",
    "data verify": "egost data verify --mini",
    "data mini": "egost data mini",
    "clips build": "egost clips build --mini",
    "clips verify": "egost clips verify",
    "cache prune": "egost cache prune --older 30 --dry-run",
    "prompts import": "egost prompts import ST-Think",
    "env": "egost env",
    "models": "egost models",
    "tasks": "egost tasks",
    "run": "egost run mini-base",
    "parity": "egost parity mini-base --engines transformers,hf --limit 1",
    "tiny": "egost tiny",
    "serve": "egost serve qwen2.5-vl-7b --dry-run",
    "summary": "egost summary runs/mini-base",
    "show": "egost show runs/mini-base",
    "compare": "egost compare runs/mini-base runs/mini-st-r1 --force",
    "sweep": "egost sweep mini-base --frames 1,2,4,8",
    "power": "egost power --points 3",
    "regress": "egost regress runs/mini-base --baseline baseline.jsonl --update",
    "report": "egost report runs/mini-base",
    "judge": "egost judge runs/mini-base --judge offline",
    "judge label": "egost judge label runs/mini-base --rater anna",
    "judge agree": "egost judge agree runs/mini-base/*/*_labels.csv runs/mini-base",
    "rescore": "egost rescore runs/mini-base",
    "diagnose": "egost diagnose mini-base --tasks egost_mini_mcq --limit 2",
    "leaderboard": "egost leaderboard runs --world mini",
    "verify": "egost verify qwen2.5-vl-7b --dry-run",
    "train demo": "egost train demo --quick",
    "train data": "egost train data --world mini --rows 16 --out rows",
    "train sft": "egost train sft mini_cot_sft --rows rows/rows.jsonl --dry-run",
    "train grpo": "egost train grpo mini_grpo --rows rows/rows.jsonl --dry-run",
    "train plot": "egost train plot runs/st_r1_7b_grpo",
    "train merge": "egost train merge runs/lora/final merged",
    "construct clips": "egost construct clips videos work",
    "construct annotate": "egost construct annotate work",
    "construct questions": "egost construct questions work",
    "construct calibrate": "egost construct calibrate work",
    "construct review": "egost construct review work",
    "construct publish": "egost construct publish work release",
}
"""What the help of each command begins with."""


class _Front(TyperGroup):
    """The whole program, whose help fits one screen."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        typer.echo(_HELP)


app = typer.Typer(
    cls=_Front,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"egost {version('egost')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


data_app = typer.Typer(
    help="Get, look at and check the release, or write the mini world.", no_args_is_help=True
)
clips_app = typer.Typer(help="Decode clips into the cache, and check it.", no_args_is_help=True)
cache_app = typer.Typer(
    help="Show what the cache holds, or free what can be made again.", invoke_without_command=True
)
judge_app = typer.Typer(
    cls=judge.JudgeGroup,
    help="Score a run's routes again with a judge, without the model; or check the judge itself, also by people.",
    invoke_without_command=True,
)
prompts_app = typer.Typer(help="Get the authors' wording of the questions.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(prompts_app, name="prompts")
app.add_typer(clips_app, name="clips")
app.add_typer(cache_app, name="cache")
app.add_typer(judge_app, name="judge")
app.add_typer(train.train_app, name="train")
app.add_typer(construct.construct_app, name="construct")

data_app.command()(data.download)
data_app.command()(data.status)
data_app.command()(data.verify)
data_app.command()(data.mini)
clips_app.command()(clips.build)
clips_app.command()(clips.verify)
cache_app.callback()(cache.show)
cache_app.command()(cache.prune)
judge_app.callback()(judge.judge)
judge_app.command()(label.label)
judge_app.command()(agree.agree)
prompts_app.command("import")(prompts.import_)
app.command()(demo.demo)
app.command()(env.env)
app.command()(models.models)
app.command()(tasks.tasks)
app.command(cls=run.RunCommand)(run.run)
app.command()(parity.parity)
app.command()(tiny.tiny)
app.command()(serve.serve)
app.command()(summary.summary)
app.command()(show.show)
app.command()(compare.compare)
app.command()(sweep.sweep)
app.command()(power.power)
app.command()(regress.regress)
app.command()(report.report)
app.command()(rescore.rescore)
app.command()(diagnose.diagnose)
app.command()(leaderboard.leaderboard)
app.command()(verify.verify)


def _begin_with_examples(commands: typer.Typer, name: str = "") -> None:
    """Put each command's example in front of its help."""
    for command in commands.registered_commands:
        assert command.callback is not None
        told = inspect.getdoc(command.callback) or ""
        example = EXAMPLES[f"{name}{command.name or command.callback.__name__}"]
        command.short_help, command.help = told.partition("\n\n")[0], f"Example: {example}\n\n{told}"
    for group in commands.registered_groups:
        assert group.typer_instance is not None
        # A group's example is its own or that of its first command.
        example = next(told for path, told in EXAMPLES.items() if path.partition(" ")[0] == group.name)
        group.typer_instance.info.help = f"Example: {example}\n\n{group.typer_instance.info.help}"
        _begin_with_examples(group.typer_instance, f"{group.name} ")


_begin_with_examples(app)
