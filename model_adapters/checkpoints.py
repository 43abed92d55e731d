"""Checkpoints on this disk: which weights exactly a folder or a hub id names."""

from __future__ import annotations

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from egost.model_adapters.engine import AdapterError
from egost.tasks.cache import cache_root
from egost.tasks.errors import ClipError
from egost.tasks.file_hashes import source_sha256
from egost.tasks.json_text import Count, read_json, wrong_field

_COUNTS = re.compile(
    r"(config|generation_config|adapter_config|processor_config|(video_)?preprocessor_config|special_tokens_map"
    r"|added_tokens|vocab|tokenizer.*|chat_template.*)\.(json|jinja)"
    r"|merges\.txt|vocab\.txt|.+\.(model|py|safetensors|safetensors\.index\.json)"
    r"|(pytorch_model|adapter_model).*\.bin(\.index\.json)?"
)
"""Names of the files that a reply can depend on; the rest (README, optimiser, logs) is not hashed."""

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


class _Text(TypedDict, total=False):
    max_position_embeddings: Count


class _Config(_Text, total=False):
    text_config: _Text | None
    llm_config: _Text | None
    vision_config: dict[str, Any] | None


_CONFIG = TypeAdapter(_Config)


@dataclass(frozen=True)
class Checkpoint:
    """The weights, the tokenizer and the processor of a model on this disk.

    name: hub id, or the folder's name. revision: commit of the hub, or `sha256:` over a local folder's files.
    folder: where they lie. model_type: the family, as config.json says it.
    """

    name: str
    revision: str
    folder: Path
    model_type: str


def checkpoint_identity(name_or_folder: str | Path, revision: str | None = None) -> Checkpoint:
    """The checkpoint of a folder, or of a hub id (`Qwen/Qwen2-VL-7B-Instruct`).

    revision: branch, tag or commit of a hub id, by default `main`; none is taken with a folder. A local folder is
    hashed once; the hash is asked for again where a size or a time of change is new. The hub is never asked: what is
    not in its cache on this disk, or only in part, is an AdapterError that names the command which gets it.

    Raises AdapterError.
    """
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise AdapterError(
                f"{folder} is a folder, which has no revision '{revision}'. Leave revision out, or give a hub id."
            )
        folder = folder.resolve()
        return Checkpoint(folder.name, f"sha256:{_sha256(folder)}", folder, _model_type(folder))
    folder = _snapshot(str(name_or_folder), revision)
    return Checkpoint(str(name_or_folder), folder.name, folder, _model_type(folder))


def download_checkpoint(name: str, revision: str | None) -> None:
    """Get a hub id's checkpoint into the hub's cache; what is there is not got again. A folder needs nothing.

    Raises AdapterError where the hub cannot be reached, or does not give it, and where the disk does not hold it.
    """
    from huggingface_hub import snapshot_download

    from egost.tasks.release.hub import from_hub

    if not Path(name).expanduser().is_dir():
        with from_hub(name, revision, name, AdapterError):
            snapshot_download(name, revision=revision)


def card_sampling(folder: Path) -> dict[str, float]:
    """How the makers of a checkpoint draw its responses: `temperature`, `top_p` and `top_k` of generation_config.json,
    as far as it has them. Raises AdapterError where the file cannot be read.
    """
    path = folder / "generation_config.json"
    try:
        content = read_json(path)
        found = {
            name: content[name] for name in ("temperature", "top_p", "top_k") if content.get(name) is not None
        }
        return {name: float(value) for name, value in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise AdapterError(f"{path} cannot be read ({error}). Get the checkpoint again.") from error


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a checkpoint's config.json. Raises AdapterError where there is none that can be read."""
    try:
        config: dict[str, Any] = read_json(folder / "config.json")
        _CONFIG.validate_python(config, strict=True)
    except FileNotFoundError:
        adapter = (folder / "adapter_config.json").is_file()
        raise AdapterError(
            f"{folder} is no checkpoint: it has no config.json. "
            + ("It holds an adapter (LoRA) only; merge it into its base model first." if adapter else "")
        ) from None
    except ValidationError as error:
        raise AdapterError(
            f"{folder / 'config.json'} is no model's config ({wrong_field(error)}). Get the checkpoint again."
        ) from error
    except (OSError, ValueError) as error:
        raise AdapterError(
            f"{folder / 'config.json'} cannot be read ({error}). Get the checkpoint again."
        ) from error
    return config


def _model_type(folder: Path) -> str:
    model_type = read_config(folder).get("model_type")
    if not isinstance(model_type, str):
        raise AdapterError(f"{folder / 'config.json'} names no model_type; it is no model's config.")
    _check_whole(folder)
    return model_type


def _check_whole(folder: Path) -> None:
    try:
        missing = [
            shard
            for index in folder.glob("*.index.json")
            for shard in sorted(set(read_json(index)["weight_map"].values()))
            if not (folder / shard).is_file()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterError(
            f"the list of the weights in {folder} cannot be read ({error!r}). Get the checkpoint again."
        ) from error
    if missing or not any(any(folder.glob(pattern)) for pattern in _WEIGHTS):
        raise AdapterError(
            f"the weights in {folder} are not whole: {', '.join(missing[:3]) or 'no weights at all'} missing. "
            "Get the checkpoint again (hf download goes on where it stopped)."
        )


def _snapshot(name: str, revision: str | None) -> Path:
    """The folder of a hub id's snapshot in the hub's cache; its name is the commit. Asks no server."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError as error:
        raise AdapterError(
            f"there is no folder '{name}', and it is no hub id ({error}). Expected a checkpoint's folder or "
            "an id such as Qwen/Qwen2-VL-7B-Instruct."
        ) from error
    if not isinstance(found, str):
        at = f" --revision {revision}" if revision else ""
        raise AdapterError(
            f"there is no folder '{name}', and the hub's cache on this disk has no checkpoint '{name}'"
            f"{f' at {revision}' if revision else ''}. Check the spelling, then run: hf download {name}{at}"
        )
    return Path(found).parent


def _sha256(folder: Path) -> str:
    """SHA-256 over the names and the contents of all files that a reply can depend on."""
    files = sorted(
        p for p in folder.iterdir() if _COUNTS.fullmatch(p.name) and p.is_file() and p.stat().st_size
    )
    memo = cache_root() / "checkpoints" / "sources"
    try:
        with ThreadPoolExecutor(4) as pool:
            digests = pool.map(lambda path: source_sha256(path, memo), files)
            known = dict(zip((path.name for path in files), digests, strict=True))
    except ClipError as error:
        raise AdapterError(f"the checkpoint {folder} cannot be read: {error}") from error
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()
