"""The long description: README without its pictures and its links into the checkout, which an index page has not."""

import re
from pathlib import Path

from setuptools import setup

ELSEWHERE = r"\((?!https?://)[^)]*\)"
readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
blocks = [block for block in readme.split("\n\n") if not re.search(rf"!\[[^\]]*\]{ELSEWHERE}", block)]
setup(long_description=re.sub(rf"\[([^\]]*)\]{ELSEWHERE}", r"\1", "\n\n".join(blocks)))
