"""The models that people evaluate, and how each is to be asked; the table itself is `known_models.yaml`."""

from __future__ import annotations

import datetime
import difflib
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, field_validator

from egost.model_adapters.engine import AdapterError
from egost.model_adapters.families import FAMILIES
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.text_files import read_yaml

EngineName = Literal["vllm", "server", "hf", "transformers", "api"]
"""By what a model is asked. hf: lmms-eval's own adapter. transformers: our own loop over that library."""
Availability = Literal["open", "api", "retired", "no image input"]

GPU_GIB = 80e9 / 2**30
"""Memory of the GPU that `gpus` counts in: 80 GB."""

GPU_SHARE = 0.9
"""The part of a GPU's memory that vLLM takes."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelFamily(_Frozen):
    """What the models of one `model_type` have in common.

    architecture: class in vLLM's registry; None for an API. hf_adapter: lmms-eval's own adapter where it is proved to
    see exactly the 8 frames as one video, with the `hf_arguments` that this needs. protocol: value of
    `EGOST_PROTOCOL`. as_published: value of `EGOST_AS_PUBLISHED`; None where the authors asked no such model.
    """

    architecture: str | None = None
    hf_adapter: str | None = None
    hf_arguments: Mapping[str, int] = {}
    protocol: str
    as_published: str | None = None

    @field_validator("protocol")
    @classmethod
    def _known_protocol(cls, name: str) -> str:
        return parse_protocol(name).name


class KnownModel(_Frozen):
    """A model and how it is asked.

    name: short, for the command line. model: hub id, folder, or the API's name. revision: commit of the hub; None is
    not pinned. family: `model_type` of its config, or whose API it is. parameters: in 1e9, all of them.
    prompt, protocol: values of `EGOST_PROMPT` and `EGOST_PROTOCOL`; as_trained: they are those of its training here.
    as_published: see `ModelFamily`. tasks: what it was made for, and is asked where no tasks are named.
    paper_row: its name in the paper's tables. trust_remote_code: Python code of the checkpoint has to be run.
    """

    name: str
    model: str
    revision: str | None = Field(None, pattern="[0-9a-f]{40}")
    family: str
    architecture: str | None = None
    parameters: PositiveFloat | None = None
    hf_adapter: str | None = None
    hf_arguments: Mapping[str, int] = {}
    prompt: Literal["direct", "think", "bare"] = "direct"
    protocol: str
    as_published: str | None = None
    as_trained: bool = False
    tasks: str = "egost"
    paper_row: str | None = None
    trust_remote_code: bool = False
    availability: Availability = "open"
    note: str = ""

    @property
    def engines(self) -> tuple[EngineName, ...]:
        """By what it can be asked, the usual way first; none when it cannot be had."""
        if self.availability == "api":
            return ("api",)
        if self.availability != "open":
            return ()
        own: tuple[EngineName, ...] = ("hf",) if self.hf_adapter else ()
        plain: tuple[EngineName, ...] = (
            ("transformers",) if FAMILIES[self.family].frames_as == "video" else ()
        )
        return ("vllm", "server", *own, *plain)

    @property
    def weights_gib(self) -> float | None:
        """Memory of the weights in bfloat16, two bytes each, GiB."""
        return None if self.parameters is None else self.parameters * 1e9 * 2 / 2**30

    @property
    def memory_gib(self) -> float | None:
        """An estimate of the memory to run it, GiB; see `memory_to_run`."""
        return None if self.weights_gib is None else memory_to_run(self.weights_gib)

    @property
    def gpus(self) -> int | None:
        """GPUs of 80 GB that hold it; see `gpus_that_hold`."""
        return None if self.weights_gib is None else gpus_that_hold(self.weights_gib)


def memory_to_run(weights_gib: float) -> float:
    """An estimate of the memory to run weights of a size, both GiB: the weights, a fifth of them, and 2 GiB.

    The fifth and the 2 GiB are for activations, the frames' encoder and the keys and values of a few
    requests of some thousand tokens. More memory lets vLLM keep more requests going at once.
    """
    return 1.2 * weights_gib + 2


def gpus_that_hold(weights_gib: float) -> int:
    """GPUs of 80 GB for weights of a size: a power of two, because tensor parallelism splits attention heads evenly."""
    least = memory_to_run(weights_gib) / (GPU_SHARE * GPU_GIB)
    return 1 if least <= 1 else 2 ** math.ceil(math.log2(least))


class KnownModels(_Frozen):
    """The whole table. checked: the day on which availability was last looked up."""

    checked: datetime.date
    families: Mapping[str, ModelFamily]
    models: tuple[KnownModel, ...]


@cache
def known_models() -> KnownModels:
    """The table, in its own order; what a model leaves out is its family's."""
    table = read_yaml(Path(__file__).with_name("known_models.yaml").read_text(encoding="utf-8"))
    table["models"] = [{**table["families"][model["family"]], **model} for model in table["models"]]
    return KnownModels.model_validate(table)


def known_model(name: str) -> KnownModel | None:
    """The model of the table with a short name, or a hub id, in any case; None where there is none."""
    wanted = name.lower()
    models = known_models().models
    return next((model for model in models if wanted in (model.name, model.model.lower())), None)


def unknown_model(name: str) -> AdapterError:
    """The error for a name that is no known model's; it names the closest."""
    names = [model.name for model in known_models().models]
    close = difflib.get_close_matches(name.lower().rpartition("/")[2], names, n=3, cutoff=0.5)
    return AdapterError(
        f"'{name}' is no known model. "
        + (f"Did you mean {' or '.join(close)}? " if close else "")
        + "`egost models` lists all of them."
    )
