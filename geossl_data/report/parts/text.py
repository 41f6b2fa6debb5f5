"""Words on the page."""

from dataclasses import dataclass

from geossl_data.report.words import escaped, paragraphs


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Paragraphs, or a file as it is."""

    text: str
    """Paragraphs with an empty line between them."""
    title: str = ""
    plain: bool = False
    """Every character keeps its place: a recipe, a licence."""

    def html(self, key: str) -> str:
        """The text below its title; empty without text."""
        if not self.text.strip():
            return ""
        heading = f'<h3 id="{key}-t">{escaped(self.title)}</h3>' if self.title else ""
        if self.plain:
            name = f' aria-labelledby="{key}-t"' if self.title else ' aria-label="text"'
            body = f'<pre tabindex="0" role="region"{name}>{escaped(self.text.rstrip())}</pre>'
        else:
            body = paragraphs(self.text)
        return f'<div class="text">{heading}{body}</div>'
