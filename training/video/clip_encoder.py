"""Runs a clip through the vision tower once, however many completions look at it.

The plain way repeats the pixels for each of a group's completions, for the policy and again for the reference. Here
each clip is encoded once a call, and its features are handed to the language model for every sequence that shows
it, by the public argument `mm_encoder_outputs` of the transformers models. Where the tower is not trained, or no
gradient is asked for, the features are kept for the whole generation batch, so that rollout, old and reference
log-probabilities and the loss share them.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from egost.training import TrainingError
from egost.training.video.video_inputs import ShownSample

if TYPE_CHECKING:
    import torch


class ClipEncoder:
    """The features of the clips of one generation batch, for each model that sees them."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], torch.Tensor] = {}

    def forget(self) -> None:
        """Drop what is kept: a new generation batch begins, and the weights have moved on."""
        self._kept.clear()

    def encode(self, model: Any, shown: Sequence[ShownSample]) -> dict[str, Any]:
        """What a model's `mm_encoder_outputs` takes: the features of each sequence's video, in their order.

        model: the plain transformers model, without any wrapper. Gradients of all sequences flow into one run of
        the tower where it is trained and a gradient is asked for.
        """
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        tower = model.model.visual
        clips = {sample.video_key: sample for sample in shown}
        if torch.is_grad_enabled() and any(weight.requires_grad for weight in tower.parameters()):
            features = dict(zip(clips, _run(model, list(clips.values())), strict=True))
        else:
            features = self._encode_once(model, clips)
        return {
            "video": BaseModelOutputWithPooling(
                pooler_output=tuple(features[sample.video_key] for sample in shown)
            )
        }

    def _encode_once(self, model: Any, clips: dict[str, ShownSample]) -> dict[str, torch.Tensor]:
        import torch

        seen_by = (id(model.model.visual), *_adapter_state(model.model.visual))
        missing = {key: sample for key, sample in clips.items() if (*seen_by, key) not in self._kept}
        if missing:
            with torch.no_grad():
                for key, features in zip(missing, _run(model, list(missing.values())), strict=True):
                    self._kept[(*seen_by, key)] = features
        return {key: self._kept[(*seen_by, key)] for key in clips}


def check_video_model(model: Any) -> None:
    """Raise TrainingError unless the model takes features of a video in the place of its pixels."""
    takes = inspect.signature(type(model).forward).parameters
    inner = getattr(model, "model", None)
    if (
        "mm_encoder_outputs" in takes
        and hasattr(inner, "visual")
        and hasattr(inner, "get_video_features")
        and hasattr(model.config, "video_token_id")
    ):
        return
    raise TrainingError(
        f"{type(model).__name__} is no model whose video input can be filled; expected one of the Qwen2-VL or "
        "Qwen2.5-VL family. Give --model_name_or_path a checkpoint of one."
    )


def _run(model: Any, clips: Sequence[ShownSample]) -> Sequence[torch.Tensor]:
    """Features of each clip, [video tokens, hidden size]."""
    import torch

    device = model.model.visual.device
    pixels = torch.cat([clip.pixel_values_videos for clip in clips]).to(device)
    grid = torch.cat([clip.video_grid_thw for clip in clips]).to(device)
    features: Sequence[torch.Tensor] = model.model.get_video_features(
        pixels, grid, return_dict=True
    ).pooler_output
    return features


def _adapter_state(tower: Any) -> tuple[object, ...]:
    """A key that differs between the tower with its adapters and without them; empty where it has none."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layer = next((module for module in tower.modules() if isinstance(module, BaseTunerLayer)), None)
    return () if layer is None else (layer.disable_adapters, *layer.active_adapters)
