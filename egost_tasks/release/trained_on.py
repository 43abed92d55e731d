"""`egost_training.json`, and the rule that no model is evaluated on samples that it was trained on.

A checkpoint that this project trains carries `egost_training.json`, which lists its rows:

    {"world": "mini", "release_revision": "mini-1 train seed 0 clips 40",
     "rows": [{"sample": "Part1/direction_forward/3", "clip_sha256": "4f1c..."}, ...]}

A row of an earlier stage may name its own `world` and `release_revision`.

Checkpoints of others carry none. Those that were published with the rows they were trained on are listed in
`published_training.json`: names, and a `question_key` for each row, since the released rows do not say their ids.

Whoever asks a model about samples names it to `note_model` and asks `without_trained_on` for those that may be
evaluated; `egost.tasks.registration` does so for lmms-eval.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, cast, get_args

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from egost.tasks.as_published import chosen
from egost.tasks.errors import ClipError, ReleaseError, say_once
from egost.tasks.file_hashes import source_sha256
from egost.tasks.json_text import parse_json, read_json, wrong_field
from egost.tasks.release.release import Release
from egost.tasks.sample import Sample

MANIFEST = "egost_training.json"
TRAINED_ON = "EGOST_TRAINED_ON"
"""Environment variable: `refuse` (the default), `leave-out` what the model was trained on, `allow` it, or `paper`."""

Policy = Literal["refuse", "leave-out", "allow", "paper"]
"""`paper`: the paper's protocol (section 5.3): what ST-R1 was trained on is left out for every model."""

ST_R1 = "openinterx/ST-R1-mcq"

PAPER_TEST = 3582
"""Questions that the paper tests ST-R1 on (Table 3)."""

_LORA = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class TrainedRow:
    """A sample that a checkpoint was trained on, in whichever stage.

    sample: its id. clip_sha256: of the clip's bytes. world, release_revision: the release that it is from.
    method: the stage that learnt from it (`sft`, `grpo`); empty where the manifest does not say.
    """

    sample: str
    clip_sha256: str
    world: str
    release_revision: str
    method: str = ""


class _Row(TypedDict):
    sample: Annotated[str, Field(min_length=1)]
    clip_sha256: str
    world: NotRequired[str]
    release_revision: NotRequired[str]
    method: NotRequired[str]


class _Manifest(TypedDict):
    world: str
    release_revision: str
    rows: list[_Row]
    base: NotRequired[str]
    base_revision: NotRequired[str]
    settings: NotRequired[dict[str, Any]]


_MANIFEST = TypeAdapter(_Manifest)


@dataclass(frozen=True)
class TrainedRows:
    """The rows that a checkpoint was trained on, the last stage's first.

    path: its manifest. sha256: hash of the manifest's bytes. content: the whole manifest, as the training wrote it.
    questions: the `question_key` of each row of a published checkpoint, whose rows have no ids.
    """

    path: Path
    sha256: str
    rows: tuple[TrainedRow, ...]
    content: Mapping[str, Any]
    questions: frozenset[str] = frozenset()

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.rows) or len(self.questions)

    def among(self, release: Release, samples: Iterable[Sample]) -> list[Sample]:
        """The samples that were trained on, in their order.

        A sample is the same when it has the same id in the same release (the official one at any revision, a mini
        world at its own), or when its clip has the same bytes and it asks for the same task and way: a clip has one
        such question, whatever release it is in.
        """
        ids = {
            row.sample
            for row in self.rows
            if row.world == release.world
            and (row.world == "official" or row.release_revision == release.revision)
        }
        if self.questions:
            # The mini world's clips have other names.
            return [s for s in samples if question_key(s.clip, s.way, s.options) in self.questions]
        asked = {(row.clip_sha256, _task_way(row.sample)) for row in self.rows}
        return [s for s in samples if s.id in ids or (_clip_sha256(release, s), f"{s.task}_{s.way}") in asked]


_noted: list[tuple[str, str]] = []


def note_model(given: str | Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
    """Remember the arguments of the model that is asked next: as lmms-eval's `NAME=VALUE,...`, or name and value."""
    if isinstance(given, str):
        given = ((name, value) for name, _, value in (pair.partition("=") for pair in given.split(",")))
    pairs = given.items() if isinstance(given, Mapping) else given
    _noted[:] = [(name, text) for name, value in pairs if isinstance(value, str) and (text := value.strip())]


def note_served(*names: str) -> None:
    """Remember what a server says that it serves: further names of the noted model."""
    _noted.extend(("served", name) for name in names)


def noted_model() -> list[tuple[str, str]]:
    """The names of the noted model, in a form that `note_model` takes."""
    return list(_noted)


def noted_manifests() -> list[TrainedRows]:
    """What is known of the training of the noted model, by whatever its arguments name: a folder, a name on the hub
    (with its revision, as far as it lies in the hub's cache), a served name, an adapter (LoRA) and the base of one.

    Raises ReleaseError for a manifest that cannot be read.
    """
    found = [record for _, value in _noted for record in _records(value)]
    return list({record.path: record for record in found}.values())


def question_key(clip: str, way: str, options: Iterable[str]) -> str:
    """Names a multiple-choice question by its clip's file name, its way and its options, without their spelling's
    case, spaces and full stops. Each of the 630 released rows has its own.
    """
    plain = (re.sub(r"\s+", " ", option).strip().rstrip(".").casefold() for option in options)
    return hashlib.sha256("\n".join((clip, way, *plain)).encode()).hexdigest()[:16]


@cache
def published_training() -> Mapping[str, TrainedRows]:
    """What published checkpoints were trained on, by their names in lower case: hub id, its last part, short name."""
    path = Path(__file__).with_name("published_training.json")
    content = path.read_bytes()
    found: dict[str, TrainedRows] = {}
    for hub_id, entry in json.loads(content).items():
        record = TrainedRows(
            path, hashlib.sha256(content).hexdigest(), (), {"base": hub_id}, frozenset(entry["questions"])
        )
        names = (hub_id, hub_id.rpartition("/")[2], *entry["names"])
        found |= {name.casefold(): record for name in names}
    return found


def read_manifest(path: Path) -> TrainedRows:
    """The rows that a manifest lists. Raises ReleaseError where it cannot be read, or is of another form."""
    try:
        content = path.read_bytes()
        manifest = parse_json(content)
        found = _MANIFEST.validate_python(manifest, strict=True)
    except (OSError, ValueError) as error:
        why = wrong_field(error) if isinstance(error, ValidationError) else str(error)
        raise ReleaseError(
            f"{path} does not say what the checkpoint was trained on ({why}); expected an object with "
            "`world`, `release_revision` and `rows`, each with `sample` and `clip_sha256`. Restore the file: without "
            "it nobody can tell whether training met test."
        ) from error
    all_of: dict[str, Any] = {"world": found["world"], "release_revision": found["release_revision"]}
    rows = tuple(TrainedRow(**{**all_of, **row}) for row in found["rows"])
    return TrainedRows(path, hashlib.sha256(content).hexdigest(), rows, manifest)


def chosen_policy() -> Policy:
    """What `EGOST_TRAINED_ON` asks for. Raises ReleaseError for another word."""
    asked = chosen(TRAINED_ON) or "refuse"
    if asked in get_args(Policy):
        return cast(Policy, asked)
    raise ReleaseError(f"{TRAINED_ON} is {asked!r}; expected refuse, leave-out, allow or paper.")


def without_trained_on(release: Release, samples: Sequence[Sample]) -> list[Sample]:
    """The samples of a task that the noted model may be evaluated on.

    Raises ReleaseError for an overlap, unless `EGOST_TRAINED_ON` says what is to be done with it, and where
    leaving it out would leave no sample.
    """
    policy = chosen_policy()
    trained = trained_among(release, samples, policy)
    if not trained or policy == "allow":
        return list(samples)
    task = f"{samples[0].task}_{samples[0].way}"
    if policy == "refuse":
        raise ReleaseError(
            f"the model was trained on {len(trained)} of the {len(samples)} samples of {task} in the {release.world} "
            f"release: {_first(trained)}. Its rows are listed in {next(iter(trained.values())).path}. Set "
            f"{TRAINED_ON}=leave-out to evaluate it on the others, as the paper does, or {TRAINED_ON}=allow to "
            "evaluate it all the same, marked in the results."
        )
    kept = [s for s in samples if s.id not in trained]
    if not kept:
        raise ReleaseError(
            f"the model was trained on all {len(samples)} samples of {task} in the {release.world} release, so that "
            f"{TRAINED_ON}={policy} leaves none. Leave the task out, or evaluate it on another release."
        )
    return kept


def trained_among(release: Release, samples: Sequence[Sample], policy: Policy) -> dict[str, TrainedRows]:
    """The ids of the samples that a policy looks at, with the record that lists each."""
    return {s.id: record for record in _left_out_by(policy) for s in record.among(release, samples)}


def overlap_metadata(release: Release) -> dict[str, Any]:
    """The entries of a results JSON about the noted model's training rows; empty for a model of which none are known,
    unless the paper's protocol leaves ST-R1's out.

    `trained_on_overlap` counts the release's samples that were trained on, or left out, by task; `trained_on_parts` all
    rows of the official release by its part (`Part3`), from which a reader sees what is out of distribution.
    """
    policy, own = chosen_policy(), noted_manifests()
    manifests = _left_out_by(policy)
    if not manifests:
        return {}
    trained = {s.id: s for m in manifests for s in m.among(release, release.index.samples)}
    if policy == "paper":
        choices = [s for s in release.index.samples if s.options]
        say_once(
            "INFO",
            f"{sum(s.id not in trained for s in choices)} of {len(choices)} multiple-choice questions of the "
            f"{release.world} release are the test, without those that ST-R1 was trained on (the paper: {PAPER_TEST})",
        )
    tasks = Counter(f"{s.task}_{s.way}" for s in trained.values())
    parts = Counter(r.sample.split("/")[0] for m in own for r in m.rows if r.world == "official")
    if release.world == "official":
        parts += Counter(
            f"Part{s.part}" for m in own if m.questions for s in m.among(release, release.index.samples)
        )
    return {
        "trained_on": policy,
        "trained_on_rows": sum(m.count for m in own),
        "trained_on_overlap": dict(sorted(tasks.items())),
        "trained_on_parts": dict(sorted(parts.items())),
        "trained_on_sha256": [m.sha256 for m in own],
    }


def _left_out_by(policy: Policy) -> list[TrainedRows]:
    """The records whose samples a policy looks at."""
    known = noted_manifests()
    st_r1 = published_training()[ST_R1.casefold()]
    return [*known, st_r1] if policy == "paper" and st_r1 not in known else known


def _records(value: str, seen: frozenset[str] = frozenset()) -> Iterator[TrainedRows]:
    """What is known of the training of what a value names, and of what that was made from."""
    if value in seen:
        return
    seen |= {value}
    folder = _folder(value)
    if folder and (folder / MANIFEST).is_file():
        record = read_manifest(folder / MANIFEST)
        yield record
        # Its own base's rows are among its rows, unless that is a published checkpoint without a manifest.
        yield from _published(str(record.content.get("base", "")))
    else:
        yield from _published(value)
    if folder and (folder / _LORA).is_file():
        try:
            base = read_json(folder / _LORA)["base_model_name_or_path"]
        except (OSError, ValueError, KeyError, TypeError):
            return
        yield from _records(str(base), seen)


def _published(value: str) -> Iterator[TrainedRows]:
    """The entry of a published checkpoint by its hub id, a folder of its name, or its folder in the hub's cache."""
    parts = value.casefold().rstrip("/").split("/")
    cached = [
        part.removeprefix("models--").replace("--", "/") for part in parts if part.startswith("models--")
    ]
    known = published_training()
    for name in ("/".join(parts), parts[-1], *cached):
        if name in known:
            yield known[name]
            return


def _folder(value: str) -> Path | None:
    """The folder on this disk that a value names: a path, or a hub id in the hub's cache at the noted revision."""
    path = Path(value).expanduser()
    try:
        if path.is_dir():
            return path
    except OSError:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if value.count("/") != 1 or path.exists():
        return None
    for revision in (*(value for name, value in _noted if name == "revision"), None):
        for name in (MANIFEST, "config.json", _LORA):
            try:
                cached = try_to_load_from_cache(value, name, revision=revision)
            except HFValidationError:
                return None
            if isinstance(cached, str):
                return Path(cached).parent
    return None


def _clip_sha256(release: Release, sample: Sample) -> str | None:
    try:
        return source_sha256(release.clip_path(sample).absolute())
    except ClipError:
        # Without a clip there is nothing that could have been seen in training.
        return None


def _task_way(sample_id: str) -> str:
    return sample_id.split("/")[1] if sample_id.count("/") >= 2 else ""


def _first(ids: Iterable[str]) -> str:
    some = list(ids)
    return ", ".join(some[:3]) + (", ..." if len(some) > 3 else "")
