"""The cards as files beside the manifest."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geossl_data.files import write_text
from geossl_data.shards.cards.croissant import CROISSANT_NAME, croissant_of
from geossl_data.shards.cards.facts import facts_of
from geossl_data.shards.cards.licence import LICENCE_NAME, licence_text
from geossl_data.shards.cards.stac import COLLECTION_NAME, collection_of
from geossl_data.shards.cards.table import table_of
from geossl_data.shards.manifest import MANIFEST_NAME, Entry


def write_cards(folder: Path, entries: Sequence[Entry], notes: Mapping[str, Any]) -> None:
    """Write the three cards into `folder`, each atomically; same entries, notes and manifest, same bytes.

    The manifest has to be there already: the cards hold its hash. Raises ShardError for notes without years where the
    pixels are of Sentinel, and for a `location` with a secret in it; StorageError when the disk is full or the folder
    is not writable.
    """
    facts, table = facts_of(entries, notes), table_of(folder / MANIFEST_NAME)
    has_label = any(member.name == "label" for member in facts.members)
    texts = {
        LICENCE_NAME: licence_text(notes["years"], sentinels=facts.sentinels, rtc=facts.rtc, label=has_label),
        CROISSANT_NAME: _json(croissant_of(facts, notes, table=table)),
        COLLECTION_NAME: _json(collection_of(facts, notes, table=table)),
    }
    for name, text in texts.items():
        write_text(folder / name, text)


def _json(card: Mapping[str, Any]) -> str:
    return json.dumps(card, indent=2, sort_keys=True, allow_nan=False) + "\n"
