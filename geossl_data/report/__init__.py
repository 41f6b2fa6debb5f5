"""What a dataset holds, as one HTML page that opens anywhere, also without a network.

`page` sets a page together of sections, `parts` are what sections show: tables, charts, maps, galleries. What the
sections of a dataset's page are is decided in `build`.
"""

from geossl_data.report.numbers import shown
from geossl_data.report.page import REPORT_NAME, Part, Section, page, write_report

__all__ = ["REPORT_NAME", "Part", "Section", "page", "shown", "write_report"]
