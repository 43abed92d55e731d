"""The front door: the `egost` command, one thin sub-command for each thing that a person does."""

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
    regress,
    report,
    run,
    serve,
    show,
    summary,
    tiny,
    train,
)

_HELP = """Ego-ST Bench and ST-R1, evaluated with the plain lmms-eval command.

[bold]Try it[/] without a GPU, a key or a network:
  egost data mini        write the mini world: rendered walks, exact answers
  egost run tiny --tasks egost_mini

[bold]The benchmark:[/]
  egost data download    get the official release from the hub
  egost data status      what is there, what is missing
  egost data verify      has every question a clip that decodes?
  egost clips build      decode all clips into the cache, on all cores
  egost models           what can be evaluated, and what it takes
  egost run MODEL        prints the lmms-eval command, runs it;
                         after a kill, the same again goes on
  egost serve MODEL      vLLM's server, for egost run --base-url
  egost parity MODEL     do two engines say the same?
  egost summary runs     the figures of the newest run
  egost report RUN [RUN_B]  all of it as one HTML page
  egost show runs        what made them, and what it cost
  egost compare A B      which run is better, how surely, where
  egost power [A [B]]    how many samples show a difference?
  egost leaderboard runs the paper's tables with your runs
  egost regress runs --baseline FILE  has it moved, and what?
  egost diagnose MODEL   does it look? controls; --text-only
  egost judge runs --judge gpt-4o     the run's routes again
  egost judge --check --judge gpt-4o  is the judge right?
  egost construct        build such a benchmark from videos

[bold]Tasks[/] (lmms-eval --tasks list shows them):
  egost_{route,direction,landmark,action}_{forward,reverse}
  groups egost, egost_st, egost_route, egost_mcq
  on the mini world the same, as egost_mini_... and egost_mini

[bold]Settings[/] (environment):
  EGOST_DATA, EGOST_MINI_DATA, EGOST_CACHE   folders
  EGOST_PROMPT     direct, think or a file
  EGOST_PROTOCOL   uniform8, ref-qwen; +cap151200 or +224x224 behind it
  EGOST_DECODER    pyav, torchcodec, decord
  EGOST_JUDGE      gpt-4o, openai:MODEL@URL, azure:NAME@URL, offline
  EGOST_ONLY       1: our tasks alone, for a quicker start
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
clips_app = typer.Typer(help="Decode clips into the cache.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(clips_app, name="clips")
app.add_typer(train.train_app, name="train")
app.add_typer(construct.construct_app, name="construct")

data_app.command()(data.download)
data_app.command()(data.status)
data_app.command()(data.verify)
data_app.command()(data.mini)
clips_app.command()(clips.build)
app.command()(models.models)
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
app.command()(diagnose.diagnose)
app.command()(leaderboard.leaderboard)
