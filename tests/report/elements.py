"""What an HTML text holds, for tests of it."""

from html.parser import HTMLParser


class Elements(HTMLParser):
    """The elements of a page or a part, their attributes and their text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.within: list[tuple[str, str]] = []
        """Text with the element that was opened last before it."""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append(data)
            self.within.append((self.found[-1][0] if self.found else "", data))

    def all(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        """Attributes of each element of a tag, and of a class where one is asked for."""
        return [of for name, of in self.found if name == tag and (not kind or kind in (of.get("class") or "").split())]

    def texts(self, tag: str) -> list[str]:
        """What stands in each element of a tag before another is opened."""
        return [words for name, words in self.within if name == tag]
