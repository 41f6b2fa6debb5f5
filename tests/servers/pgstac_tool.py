"""What needs pgstac's own packages; run by the Python of the servers' environment, never imported by tests.

pgstac_tool.py migrate            make the schema, in the database that PGHOST and the like name
pgstac_tool.py load ITEMS         load a file of items, one a line, and the collections that they name
pgstac_tool.py serve FD           serve the STAC API on a listening socket that is inherited
"""

import json
import socket
import sys
from pathlib import Path

QUERYABLES = {
    "eo:cloud_cover": {"type": "number"},
    "sat:relative_orbit": {"type": "integer"},
    "s2:processing_baseline": {"type": "string"},
}


def migrate() -> None:
    from pypgstac.db import PgstacDB
    from pypgstac.migrate import Migrate

    with PgstacDB() as db:
        Migrate(db).run_migration()
        schema = {"$schema": "https://json-schema.org/draft/2019-09/schema", "type": "object", "properties": QUERYABLES}
        db.connect().execute("SELECT upsert_queryables(%s::jsonb, NULL, NULL, false)", [json.dumps(schema)])


def load(path: str) -> None:
    from pypgstac.db import PgstacDB
    from pypgstac.load import Loader, Methods

    with Path(path).open(encoding="utf-8") as lines:
        collections = sorted({json.loads(line)["collection"] for line in lines})
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
    common = {"type": "Collection", "stac_version": "1.0.0", "description": "loaded", "license": "proprietary"}
    with PgstacDB() as db:
        loader = Loader(db)
        made = [common | {"id": name, "extent": extent, "links": []} for name in collections]
        loader.load_collections(iter(made), Methods.upsert)
        loader.load_items(path, Methods.upsert)


def serve(descriptor: str) -> None:
    import uvicorn

    config = uvicorn.Config("stac_fastapi.pgstac.app:create_app", factory=True, log_level="info", use_colors=False)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(descriptor))])


if __name__ == "__main__":
    {"migrate": migrate, "load": load, "serve": serve}[sys.argv[1]](*sys.argv[2:])
