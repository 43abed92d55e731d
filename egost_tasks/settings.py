"""The environment variables that egost reads: of this table `egost --help`, `egost env` and docs/settings.md are made.

python -m egost.tasks.settings > docs/settings.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable.

    values: what it may hold, in Markdown; default: what holds where it is not set, or "".
    meaning: one sentence. short: its line in `egost --help`, given for the few that most people need.
    secret: whether it holds a key, which is never recorded or printed.
    reader: the package that reads it, where that is not ours.
    """

    name: str
    values: str
    default: str
    meaning: str
    short: str = ""
    secret: bool = False
    reader: str = "egost"


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "EGOST_DATA",
        "a folder",
        "what `egost data download` put into the hub's cache",
        "The official release in its official layout.",
        short="folder with the official release",
    ),
    Setting(
        "EGOST_MINI_DATA",
        "a folder",
        "`mini` in `EGOST_CACHE`",
        "A mini world of your own, written by `egost data mini --out`.",
    ),
    Setting(
        "EGOST_CACHE",
        "a folder",
        "`~/.cache/egost`",
        "Frames, replies, judgements, unpacked archives, mini world and tiny checkpoint; on a local disk.",
        short="folder for frames, replies and judgements",
    ),
    Setting(
        "EGOST_PROMPT",
        "`direct` (the letter alone), `think` (reason in `<think>`, answer in `<answer>`; for ST-R1), `bare` (no hint "
        "of what is scored), or a YAML file like [`direct.yaml`](../egost_tasks/prompts/direct.yaml)",
        "`direct`",
        "The wording of the questions.",
        short="direct, think, bare or a YAML file",
    ),
    Setting(
        "EGOST_AS_PUBLISHED",
        "`st-r1`, `qwen`, `internvl` (as the released code asks them), `llava`, `closed` (as the paper says)",
        "",
        "All settings as the authors ran it, in one word, which is recorded; see [fidelity](fidelity.md).",
    ),
    Setting(
        "EGOST_PROTOCOL",
        "`uniformN` (N from 1 to 64), `ref-qwen` or `ref-internvl` (the released code's two ways); each with "
        "`+cap151200` (most pixels a frame), `+cap100352-151200` (fewest, too), or `+224x224`; see [frames](frames.md)",
        "`uniform8`",
        "Which frames of a clip a model sees, and in which size. Others than 8 never stand beside published figures.",
    ),
    Setting(
        "EGOST_FRAME_COUNTS",
        "whole numbers from 1 to 64 with commas between",
        "",
        "Numbers of frames that will be asked for: a clip that is decoded for one `uniformN` is kept for all. `egost "
        "sweep` sets it.",
    ),
    Setting(
        "EGOST_DECODER",
        "`pyav`, `torchcodec` (extra `torchcodec`, needs the system's ffmpeg), `decord`",
        "`pyav`",
        "The library that decodes the clips.",
    ),
    Setting(
        "EGOST_JUDGE",
        "`gpt-4o` (the snapshot `gpt-4o-2024-08-06`), another `gpt-...`, `openai:MODEL@BASE_URL`, "
        "`azure:DEPLOYMENT@ENDPOINT`, `offline`; several with commas between them vote",
        "none on the benchmark, `offline` on the mini world",
        "The judge of the route descriptions.",
        short="gpt-4o, openai:MODEL@URL, azure:NAME@URL, offline",
    ),
    Setting(
        "EGOST_ONLY",
        "`1`",
        "",
        "lmms-eval indexes our tasks alone, which saves 4 to 5 s of CPU.",
    ),
    Setting(
        "EGOST_TRAINED_ON",
        "`refuse` (an error that names them), `leave-out`, `allow` (marked in the results), `paper` (what ST-R1 was "
        "trained on is left out for every model: Table 3)",
        "`refuse`",
        "What to do with samples that the checkpoint was trained on, by its `egost_training.json` or as published.",
    ),
    Setting(
        "EGOST_DECODE_TIMEOUT",
        "seconds of CPU above 0",
        "30",
        "How much CPU the child process that decodes may take for one clip; ten times as long on the clock.",
    ),
    Setting(
        "EGOST_DECODE_MEMORY",
        "MiB, at least 256, with torchcodec 1024",
        "4096",
        "How much memory the child process that decodes may take.",
    ),
    Setting(
        "EGOST_UNPACK_LIMIT",
        "GiB",
        "20 times an archive's own size, 200 GiB at most",
        "How much the clips of one archive of the release may take when they are unpacked.",
    ),
    Setting(
        "EGOST_JUDGE_CONCURRENCY",
        "a whole number from 1 on",
        "32",
        "How many requests a judge's server gets at once.",
    ),
    Setting(
        "EGOST_JUDGE_REPEATS",
        "a whole number from 1 on",
        "1",
        "How many times each route is judged, to measure the judge's own noise.",
    ),
    Setting(
        "OPENAI_API_KEY", "a key", "", "For the judge, the writers and `egost_openai` at OpenAI.", secret=True
    ),
    Setting(
        "OPENAI_BASE_URL",
        "a URL",
        "",
        "Not followed: where it is set, egost says that it asks OpenAI all the same, and how to name another server.",
    ),
    Setting("OPENAI_API_VERSION", "a date", "2024-10-21", "The version of Azure's interface."),
    Setting(
        "AZURE_OPENAI_API_KEY",
        "a key",
        "",
        "For the judge, the writers and `egost_openai` at Azure.",
        secret=True,
    ),
    Setting(
        "EGOST_JUDGE_KEY",
        "a key",
        "",
        "For a judge or writer at a server of your own (`openai:MODEL@BASE_URL`).",
        secret=True,
    ),
    Setting(
        "EGOST_API_KEY",
        "a key",
        "",
        "For `egost_openai` and `egost_gemini` at a server of your own (`base_url=URL`).",
        secret=True,
    ),
    Setting(
        "EGOST_SERVER_API_KEY",
        "a key",
        "",
        "For vLLM servers of your own (`egost run --base-url`).",
        secret=True,
    ),
    Setting("GEMINI_API_KEY", "a key", "", "For Gemini.", secret=True),
    Setting("GOOGLE_API_KEY", "a key", "", "For Gemini, where `GEMINI_API_KEY` is not set.", secret=True),
    Setting("HF_HOME", "a folder", "`~/.cache/huggingface`", "The hub's cache.", reader="huggingface_hub"),
    Setting("HF_ENDPOINT", "a URL", "the hub", "A mirror of the hub.", reader="huggingface_hub"),
    Setting(
        "HF_TOKEN",
        "a token",
        "",
        "For private repositories on the hub.",
        secret=True,
        reader="huggingface_hub",
    ),
    Setting(
        "HF_HUB_OFFLINE",
        "`1`",
        "",
        "Nothing is asked of the hub: what is there must do.",
        reader="huggingface_hub",
    ),
    Setting("SSL_CERT_FILE", "a file", "certifi's", "Certificates that servers are trusted by."),
    Setting(
        "SSL_CERT_DIR", "a folder", "", "Certificates, each in a file, where `SSL_CERT_FILE` is not set."
    ),
    Setting(
        "XDG_CACHE_HOME", "a folder", "`~/.cache`", "Where `egost` keeps its cache without `EGOST_CACHE`."
    ),
    Setting(
        "CUDA_VISIBLE_DEVICES", "numbers of GPUs", "all", "Which GPUs a run may use; recorded in the results."
    ),
    Setting(
        "WORLD_SIZE", "set by accelerate", "1", "The number of processes that train or evaluate together."
    ),
    Setting(
        "LOCAL_WORLD_SIZE",
        "set by torchrun and accelerate",
        "1",
        "How many of these processes are on this machine, which share its cores.",
    ),
    Setting("RANK", "set by accelerate", "0", "Which of these processes it is."),
    Setting(
        "VLLM_CPU_KVCACHE_SPACE",
        "GiB",
        "set by egost on a CPU",
        "Memory for the key-value cache of vLLM on a CPU; a value of yours is kept.",
    ),
)


def help_lines(settings: Sequence[Setting] = SETTINGS) -> list[str]:
    """The settings that `egost --help` shows: those that most people need."""
    return [f"{setting.name:<12} {setting.short}" for setting in settings if setting.short]


def markdown(settings: Sequence[Setting] = SETTINGS) -> str:
    """The page docs/settings.md."""
    rows = [
        f"| `{s.name}` | {s.values} | {s.default} | {s.meaning}{' Never written down.' * s.secret} |"
        for s in settings
    ]
    return "\n".join([_HEAD, *rows, _FOOT])


_HEAD = """# Settings

All settings are environment variables. This page is made from the table in `egost_tasks/settings.py`
(`python -m egost.tasks.settings > docs/settings.md`). Most people need `EGOST_DATA`, `EGOST_CACHE`, `EGOST_JUDGE` and
`EGOST_PROMPT`. `egost env` prints the settings that are set, `egost env --all` all of them.

| variable | values | default | meaning |
|---|---|---|---|"""

_FOOT = """
What a run used is in the `configs` of lmms-eval's results JSON, the frames of each sample (indices, times, hash of
the pixels) in its samples file. The prompt reaches the tasks as `lmms_eval_specific_kwargs`, made from `EGOST_PROMPT`.

The variables from `HF_HOME` to `HF_HUB_OFFLINE` are read by `huggingface_hub` itself. All of its other settings
hold as well.
"""

if __name__ == "__main__":
    print(markdown(), end="")
