"""A process that fine-tunes by the real recipe and, where asked to, kills itself in the middle.

python sft_process.py KILL_AT KILL_WHEN [--flag value ...]      KILL_WHEN: step, save or never
"""

from __future__ import annotations

import sys
from typing import Any

from grpo_process import Kill

from egost.training import sft


def main() -> None:
    step, when, *flags = sys.argv[1:]
    make_trainer = sft.make_trainer

    def with_kill(*arguments: Any) -> Any:
        trainer = make_trainer(*arguments)
        trainer.callback_handler.callbacks.insert(0, Kill(int(step), when))
        return trainer

    sft.make_trainer = with_kill
    sft.main(flags)


if __name__ == "__main__":
    main()
