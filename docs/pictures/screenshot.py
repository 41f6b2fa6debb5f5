"""The picture of a report in the README and in the how-to: taken with a real browser.

    python docs/pictures/screenshot.py mydata/report.html

Needs playwright (in the development extras) and Debian's chromium.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--headless=new"]


def main(report: Path) -> None:
    """Take it as the page comes up, light, on a screen of a laptop's width."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1120, "height": 1400}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        page.wait_for_load_state("load")
        page.screenshot(path=HERE / "report.jpg", type="jpeg", quality=72)
        browser.close()
    print(f"report.jpg  {(HERE / 'report.jpg').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
