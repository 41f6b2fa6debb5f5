"""Samples as cards of pictures, to leaf through and to compare."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from geossl_data.report.numbers import shown
from geossl_data.report.parts.picture import address_of
from geossl_data.report.words import escaped, printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One look: its pictures side by side, and what there is to say of them."""

    caption: str
    """Ids, dates, gap, orbit, cloud."""
    pictures: Sequence[tuple[str, bytes]] = field(repr=False)
    """What each shows, and its bytes (PNG, JPEG or WebP)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A sample: facts and its looks in time order."""

    title: str
    facts: Mapping[str, object]
    """Name → number or short text, shown as `numbers.shown` says."""
    strips: Sequence[Strip]
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Kind of tag → tag, by which the cards of a gallery are filtered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Cards, with a filter for each kind of tag and one for words."""

    title: str
    """Empty where the section says it."""
    cards: Sequence[Card]
    note: str = ""
    """What to see in the pictures."""

    def html(self, key: str) -> str:
        """The cards below their filters; empty without cards."""
        if not self.cards:
            return ""
        kinds = list(dict.fromkeys(kind for card in self.cards for kind in card.tags))
        filters = "".join(_select(kind, sorted({card.tags.get(kind, "") for card in self.cards})) for kind in kinds)
        note = f'<p class="hint">{escaped(self.note)}</p>' if self.note else ""
        cards = (_card(card, [card.tags.get(kind, "") for kind in kinds]) for card in self.cards)
        return "\n".join(
            [
                f'<div class="gallery" role="group" aria-label="{escaped(self.title or "gallery")}">',
                f"<h3>{escaped(self.title)}</h3>{note}" if self.title else note,
                f'<div class="controls">{filters}',
                '<label>Find <input type="search" data-words autocomplete="off" spellcheck="false"></label>',
                f'<output aria-live="polite">{len(self.cards):,} of {len(self.cards):,}</output></div>',
                '<div class="cards">',
                *cards,
                "</div></div>",
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """Two columns of cards to compare: least and most of something."""

    title: str
    left_title: str
    right_title: str
    left: Sequence[Card]
    right: Sequence[Card]

    def html(self, key: str) -> str:
        """The two columns, one below the other on a phone; empty without cards."""
        if not self.left and not self.right:
            return ""
        columns = ((self.left_title, self.left), (self.right_title, self.right))
        return "\n".join(
            [
                f'<div class="beside" role="group" aria-label="{escaped(self.title)}">',
                *(
                    f"<div><h3>{escaped(title)}</h3>{''.join(_card(card, []) for card in cards)}</div>"
                    for title, cards in columns
                ),
                "</div>",
            ]
        )


def _select(kind: str, tags: Sequence[str]) -> str:
    options = "".join(f'<option value="{escaped(tag)}">{escaped(tag) or "(none)"}</option>' for tag in tags)
    every = f'<option value="" selected>all ({len(tags):,})</option>'
    return f"<label>{escaped(kind)} <select data-tag>{every}{options}</select></label>"


def _card(card: Card, tags: Sequence[str]) -> str:
    facts = "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(shown(value))}</dd></div>" for name, value in card.facts.items()
    )
    said = f' data-tags="{escaped(json.dumps([printable(tag) for tag in tags], ensure_ascii=False))}"' if tags else ""
    return "\n".join(
        [
            f'<article class="card"{said}><h4>{escaped(card.title)}</h4>',
            *([f"<dl>{facts}</dl>"] if facts else []),
            *map(_strip, card.strips),
            "</article>",
        ]
    )


def _strip(strip: Strip) -> str:
    images = "".join(
        f'<img decoding="async" alt="{escaped(alt)}" src="{address_of(data, alt)}">' for alt, data in strip.pictures
    )
    row = f'<div class="pictures">{images}</div>' if images else ""
    return f'<figure class="strip">{row}<figcaption>{escaped(strip.caption)}</figcaption></figure>'
