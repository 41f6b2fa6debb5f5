"""Catalogs → scenes → pairs. The only folder that talks to STAC."""
