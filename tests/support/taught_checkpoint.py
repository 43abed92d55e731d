"""A tiny checkpoint that answers: the embedded one after some lessons in replying at all."""

from __future__ import annotations

import random
from pathlib import Path

from egost.model_adapters.tiny_checkpoint import tiny_checkpoint
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.prompts import load_prompt
from egost.tasks.release.release import Release
from egost.tasks.sample import Sample


def taught_checkpoint(folder: Path, release: Release, steps: int = 160, letter: str | None = None) -> Path:
    """Teach the tiny checkpoint to answer the questions of a release with a letter, or with one turn.

    letter: the one that it is to give; by default the letters are drawn at random, so that its figures are neither 0
    nor 100 and differ between the tasks.
    """
    import torch
    from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

    untaught = tiny_checkpoint(folder / "untaught")
    processor = AutoProcessor.from_pretrained(untaught)
    torch.manual_seed(0)
    model = Qwen2VLForConditionalGeneration.from_pretrained(untaught).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    draw = random.Random(0)
    lessons = [
        _lesson(processor, release, s, (letter or draw.choice(s.letters)) if s.options else "Turn left.")
        for s in release.index.samples
    ]
    for _ in range(steps):
        inputs, labels = draw.choice(lessons)
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    target = folder / "taught"
    model.save_pretrained(target)
    processor.save_pretrained(target)
    return target


def _lesson(processor, release: Release, sample: Sample, answer: str):  # type: ignore[no-untyped-def]
    import torch

    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {
            "role": "user",
            "content": [{"type": "video"}, {"type": "text", "text": load_prompt("direct").render(sample)}],
        },
    ]
    asked = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    frames = get_clip(release.clip_path(sample), parse_protocol("uniform8")).frames()
    video = torch.from_numpy(frames).permute(0, 3, 1, 2)
    inputs = processor(text=[f"{asked}{answer}<|im_end|>"], videos=[video], return_tensors="pt")
    labels = inputs["input_ids"].clone()
    labels[:, : -len(processor.tokenizer(f"{answer}<|im_end|>").input_ids)] = -100
    return inputs, labels
