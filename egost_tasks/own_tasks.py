"""Tasks of lmms-eval that somebody wrote on top of ours (`include:`), or in the place of one: what changed is noted.

The note is in the task's `metadata`, which lmms-eval writes into the results JSON: `based_on` names our task,
`overridden` the fields of its YAML that are others, and `prompt_sha256` is of the texts that are sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from egost.tasks import utils
from egost.tasks.release.release import open_release
from egost.tasks.release.trained_on import overlap_metadata, without_trained_on
from egost.tasks.sample import WAYS, Sample, World
from egost.tasks.task_names import TASK_FOLDER, parse_task_name, task_name

_OF_THE_NAME = {"task", "task_alias", "tag", "group", "group_alias", "metadata", "lmms_eval_specific_kwargs"}
_WORDING = {"doc_to_text", "doc_to_messages", "lmms_eval_specific_kwargs", "description"}

_OF_A_SAMPLE = {field.name for field in fields(Sample)}

OWN_PROMPT = "own"
"""The label of a wording that is none of our prompts, or a prompt with something before or behind it."""


def asks_ours(config: Mapping[str, Any]) -> bool:
    """Whether a task's YAML, read in whichever mode, loads our samples."""
    files = (config.get("dataset_kwargs") or {}).get("data_files")
    path = files.get(config.get("test_split")) if isinstance(files, Mapping) else None
    return path is not None and Path(path).resolve() == TASK_FOLDER / "placeholder.json"


def foreign_tasks(index: Mapping[str, Mapping[str, Any]], names: Iterable[Any]) -> Iterator[str]:
    """The single tasks of others among those that names stand for. index: of lmms-eval's TaskManager."""
    from lmms_eval.utils import load_yaml_config

    for name in names:
        config = name if isinstance(name, Mapping) else {}
        task = config.get("task", name)
        if isinstance(task, str) and task in index:
            known = index[task]
            is_tag = known["type"] == "tag"
            config = known if is_tag else load_yaml_config(known["yaml_path"], mode="simple")
        if isinstance(config.get("task"), list):
            yield from foreign_tasks(index, config["task"])
        elif config and not asks_ours(config):
            yield str(config["task"])


def note_changes(task: Any) -> None:
    """Note in the metadata of a loaded task what its YAML changed of ours; nothing where it is not on top of one."""
    from lmms_eval.api.task import TaskConfig
    from lmms_eval.utils import load_yaml_config

    config, replaced = task.config, parse_task_name(str(task.config.task))
    theirs = config.metadata if isinstance(config.metadata, dict) else {}
    if not asks_ours(vars(config)):
        if replaced:
            config.metadata = {**theirs, "based_on": replaced.name, "overridden": ["dataset_path"]}
        return
    world: World = "mini" if "mini" in (theirs.get("world"), *_world_of(config.process_docs)) else "official"
    kind, way = config.test_split.split("_")
    base = task_name(world, kind, WAYS[WAYS.index(way)])
    shipped = load_yaml_config(str(TASK_FOLDER / world / f"{base}.yaml"), mode="full")
    ours = TaskConfig(**shipped)
    changed = [
        field.name
        for field in fields(TaskConfig)
        if field.name not in _OF_THE_NAME
        and _plain(getattr(config, field.name)) != _plain(getattr(ours, field.name))
    ]
    given = task.lmms_eval_specific_kwargs or {}
    if given.get("pre_prompt") or given.get("post_prompt"):
        changed.append("lmms_eval_specific_kwargs")
    if not changed and config.task == base:
        return
    config.metadata = {**shipped["metadata"], **theirs, "based_on": base, "overridden": changed}
    if _WORDING & set(changed):
        config.metadata |= {"prompt": OWN_PROMPT, "prompt_sha256": _texts_sha256(task)}


def leave_out_trained(task: Any) -> None:
    """Leave out of a loaded task what the noted model was trained on, where its samples are ours, and note it.

    Raises ReleaseError as `without_trained_on` does.
    """
    for split, docs in task.dataset.items():
        if not len(docs) or not {"world", *_OF_A_SAMPLE} <= set(docs.column_names):
            continue
        release = open_release(docs[0]["world"])
        samples = [Sample.from_doc({k: v for k, v in doc.items() if k in _OF_A_SAMPLE}) for doc in docs]
        kept = {sample.id for sample in without_trained_on(release, samples)}
        if len(kept) < len(samples):
            places = [place for place, sample in enumerate(samples) if sample.id in kept]
            for data in {id(data): data for data in (task.dataset, task.dataset_no_image)}.values():
                data[split] = data[split].select(places)
            task.task_docs = task.eval_docs
        metadata = task.config.metadata if isinstance(task.config.metadata, dict) else {}
        task.config.metadata = {**metadata, **overlap_metadata(release)}


def _world_of(process_docs: Any) -> list[World]:
    return ["mini"] if process_docs is utils.mini_docs else []


def _texts_sha256(task: Any) -> str:
    """Hash of the texts that are sent for all questions of a task, in their order."""
    chat = hasattr(task, "doc_to_messages") and callable(task.config.doc_to_messages)
    digest = hashlib.sha256()
    for doc in task.eval_docs:
        text = (
            _said(task.doc_to_messages(doc)) if chat else f"{task.config.description}{task.doc_to_text(doc)}"
        )
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def _said(messages: list[dict[str, Any]]) -> str:
    contents = [message["content"] for message in messages]
    return "".join(
        content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        for content in contents
    )


def _plain(value: Any) -> Any:
    """A value of a YAML, in a form that can be compared: lmms-eval may import a function twice."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return (value.__module__, value.__qualname__) if callable(value) else value
