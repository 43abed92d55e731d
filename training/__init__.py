"""How ST-R1 is made: training rows, fine-tuning on ST-CoT reasoning, and GRPO with video.

The ways in are the commands of `egost train`; each run is one recipe in `configs/`.
"""

from egost.tasks.errors import EgostError


class TrainingError(EgostError):
    """Rows, a recipe or a run of training cannot be made, read or used; the message says why and what to do."""
