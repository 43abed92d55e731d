"""The long description: README without its pictures and its links into the checkout, which an index page has not."""

import re
from pathlib import Path

from setuptools import setup

ELSEWHERE = r"\((?!https?://)[^)]*\)"
readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
readme = re.sub(rf"!\[[^\]]*\]{ELSEWHERE}\n\n.*\n\n", "", readme)
setup(long_description=re.sub(rf"\[([^\]]*)\]{ELSEWHERE}", r"\1", readme))
