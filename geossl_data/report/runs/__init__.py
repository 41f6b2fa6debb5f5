"""What a page says of the runs of a dataset: curves, scores, embeddings, neighbours."""

from geossl_data.report.runs.sections import run_sections

__all__ = ["run_sections"]
