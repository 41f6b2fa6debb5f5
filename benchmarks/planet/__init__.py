"""The rehearsal at planet scale: tiles, orbits, an archive of items, and the stages that are timed."""
