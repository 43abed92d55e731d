"""The `egost` command: its help, and which function each sub-command calls."""

from __future__ import annotations

import typer

from egost.commands import (
    clips,
    compare,
    construct,
    data,
    diagnose,
    judge,
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
    tasks,
    tiny,
    train,
)
from egost.tasks.settings import help_lines

_HELP = f"""Ego-ST Bench and ST-R1, evaluated with the plain lmms-eval command.

[bold]Try it[/] without a GPU, a key or a network:
  egost data mini         write the mini world: rendered walks, exact answers
  egost run mini-base --tasks egost_mini

[bold]Evaluate a model:[/]
  egost data download     get the official release from the hub
  egost data status       show what is on this machine and what is missing
  egost data verify       decode the clip of every question
  egost clips build       decode all clips into the cache, on all cores
  egost clips verify      check that no clip of the cache was changed
  egost prompts import CLONE    read the authors' wording from a clone
  egost models            list the known models and the memory they need
  egost run MODEL         print the lmms-eval command and run it; after a
                          kill, the same command goes on where it stopped
  egost serve MODEL       serve a model with vLLM, for egost run --base-url
  egost parity MODEL      ask two engines the same and compare their replies

[bold]Understand the figures:[/]
  egost summary runs      show the figures of the newest run
  egost show runs         show what made them and what they cost
  egost report RUN [RUN_B]    write one HTML page with every sample
  egost compare A B       say which run is better, and how surely
  egost power [A [B]]     count the samples that show a difference
  egost leaderboard runs  show the paper's tables with your runs
  egost diagnose MODEL    ask without video, with other frames; --text-only
  egost regress runs --baseline FILE     say whether figures moved, and why
  egost judge runs --judge gpt-4o        judge a run's routes again
  egost judge --check --judge gpt-4o     test the judge itself
  egost rescore runs      read the responses of an older run again

[bold]Make your own:[/]
  egost train             make rows, fine-tune, train with GRPO, merge
  egost construct         build a benchmark from videos

[bold]Tasks[/] (egost tasks, or lmms-eval --tasks list):
  egost_{{route,direction,landmark,action}}_{{forward,reverse}}
  groups egost, egost_st, egost_route, egost_mcq
  on the mini world the same, as egost_mini_... and egost_mini

[bold]Settings[/] (environment variables):
  {f"{chr(10)}  ".join(help_lines())}
"""

app = typer.Typer(
    help=_HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(
    help="Get, look at and check the release, or write the mini world.", no_args_is_help=True
)
clips_app = typer.Typer(help="Decode clips into the cache, and check it.", no_args_is_help=True)
prompts_app = typer.Typer(help="Get the authors' wording of the questions.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(prompts_app, name="prompts")
app.add_typer(clips_app, name="clips")
app.add_typer(train.train_app, name="train")
app.add_typer(construct.construct_app, name="construct")

data_app.command()(data.download)
data_app.command()(data.status)
data_app.command()(data.verify)
data_app.command()(data.mini)
clips_app.command()(clips.build)
clips_app.command()(clips.verify)
prompts_app.command("import")(prompts.import_)
app.command()(models.models)
app.command()(tasks.tasks)
app.command()(run.run)
app.command()(parity.parity)
app.command()(tiny.tiny)
app.command()(serve.serve)
app.command()(summary.summary)
app.command()(show.show)
app.command()(compare.compare)
app.command()(power.power)
app.command()(regress.regress)
app.command()(report.report)
app.command()(judge.judge)
app.command()(rescore.rescore)
app.command()(diagnose.diagnose)
app.command()(leaderboard.leaderboard)
