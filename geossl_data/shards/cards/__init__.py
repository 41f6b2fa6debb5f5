"""What a dataset says of itself to people and machines that have never heard of geossl.

`collection.json`: a STAC Collection whose items are the rows of the manifest; `croissant.json`: Croissant and
GeoCroissant; `LICENSE.txt`: the notice that the Copernicus terms ask for. The same recipe gives the same bytes: no
clock, no name of a folder. Links are relative, so that the files go on being true wherever the dataset is copied to.
"""

from geossl_data.shards.cards.croissant import CROISSANT_NAME, croissant
from geossl_data.shards.cards.licence import LICENCE_NAME, licence_text
from geossl_data.shards.cards.stac import COLLECTION_NAME, collection
from geossl_data.shards.cards.table import Table, table_of
from geossl_data.shards.cards.writer import write_cards

__all__ = [
    "COLLECTION_NAME",
    "CROISSANT_NAME",
    "LICENCE_NAME",
    "Table",
    "collection",
    "croissant",
    "licence_text",
    "table_of",
    "write_cards",
]
