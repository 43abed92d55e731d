"""Does every link of the built site lead to a file of it, and to a heading that is there? Standard library alone.

python tests/support/site_links.py SITE: exit code 1 names the page and the link.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page links to, and the places in it that a link can name."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places = {"", "__skip"}
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.places.add(value)


def dead_links(site: Path) -> list[str]:
    """Each link within a site that leads nowhere, with its page. 404.html has absolute ones, for any folder."""
    pages = {file.resolve(): Page(file) for file in site.rglob("*.html") if file.name != "404.html"}
    dead = []
    for file, page in sorted(pages.items()):
        for link in page.links:
            to = urlsplit(link)
            if to.scheme or to.netloc:
                continue
            there = (file.parent / unquote(to.path)).resolve() if to.path else file
            there = there / "index.html" if there.is_dir() else there
            lost = there in pages and unquote(to.fragment) not in pages[there].places
            if lost or not there.is_file():
                dead.append(f"{file.relative_to(site.resolve())}: {link}")
    return dead


if __name__ == "__main__":
    if found := dead_links(Path(sys.argv[1])):
        sys.exit("links that lead nowhere:\n" + "\n".join(found))
