"""The four kinds of scene, two outdoors and two indoors (paper, section 3.2), and the part that each one fills."""

from __future__ import annotations

from typing import Literal, get_args

Scene = Literal["outdoor_street", "outdoor_open", "indoor_single", "indoor_multi"]

SCENES: tuple[Scene, ...] = get_args(Scene)

PART_OF_SCENE: dict[Scene, int] = {
    "outdoor_street": 1,
    "outdoor_open": 2,
    "indoor_single": 3,
    "indoor_multi": 4,
}
"""The official release has its outdoor clips in parts 1 and 2, SUN3D's rooms in part 3 and Aria's homes in part 4.

The paper says that there are four kinds, not how the two of each are told apart: the names are this project's own.
"""

ACTION_SCENE: Scene = "indoor_multi"
"""The only kind with questions about actions, since part 4 alone has files for them ."""

SCENE_WORDS: dict[Scene, str] = {
    "outdoor_street": "along streets and paths",
    "outdoor_open": "over open ground: a park, a campus, a square",
    "indoor_single": "within one room",
    "indoor_multi": "through several rooms or floors",
}
"""What each kind is, for people who choose one."""
