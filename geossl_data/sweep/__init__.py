"""Studies: a grid of recipes over one pool, run side by side, and what came of them as one table."""
