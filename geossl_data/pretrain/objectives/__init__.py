"""What training minimises: one file per family of objectives."""
