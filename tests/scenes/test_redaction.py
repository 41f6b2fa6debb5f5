"""Logs and tracebacks without signatures, passwords and keys, whoever wrote them."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.scenes.redaction import LOGGERS, RedactedRecord, guard_loggers, redact_text, redacted_traceback


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('https://a.example:443 "GET /s2/B02.tif?se=1&sig=SECRET HTTP/1.1" 206 16', "/s2/B02.tif HTTP/1.1"),
        ("cannot open 'https://user:SECRET@a.example/b.tif'", "https://a.example/b.tif"),
        ("GET https://a.example/x Headers: {'Authorization': 'Bearer SECRET', 'Accept': '*/*'}", "'Accept': '*/*'"),
        ("Authorization: Basic SECRET SECRET", "Authorization: …"),
        ("send: b'Ocp-Apim-Subscription-Key: SECRET'", "Ocp-Apim-Subscription-Key: …"),
        ("{'Cookie': b'SECRET; SECRET', 'Host': 'h'}", "'Host': 'h'"),
        ('{"token": "se=1&sig=SECRET%3D&sp=r"}', "se=1&sig=…&sp=r"),
        ("/vsicurl/https://h/a.tif?X-Amz-Signature=SECRET: 403", "/vsicurl/https://h/a.tif"),
        ("s3 X-Amz-Security-Token=SECRET&x=1", "&x=1"),
    ],
)
def test_what_is_left_of_a_text(text: str, shown: str) -> None:
    assert "SECRET" not in redact_text(text)
    assert shown in redact_text(text)
    assert redact_text(redact_text(text)) == redact_text(text)


def test_plain_text_stays() -> None:
    text = "3 of 12 samples in /data/x: B02.tif, 10:20:31; tokens=2, see https://a.example/docs#token"
    assert redact_text(text) == text


@settings(max_examples=60, deadline=None)
@given(st.text("aZ09%&=._~+/-", min_size=1, max_size=30), st.sampled_from(["", " ", "'", '"', "\n"]))
def test_no_query_of_any_address_is_left(query: str, end: str) -> None:
    text = f"failed: https://h.example/a.tif?{query}{end}"
    assert redact_text(text) == f"failed: https://h.example/a.tif{end}"


def test_a_record_never_holds_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    guard_loggers()
    guard_loggers()
    with caplog.at_level(logging.DEBUG):
        for name in LOGGERS:
            try:
                raise ValueError("https://h/a?sig=SECRET")
            except ValueError:
                logging.getLogger(name).debug("%s %s", name, "https://h/a?sig=SECRET", exc_info=True)
            logging.getLogger(name).debug("sig=SECRET %s %s", "one argument too few")
    assert len(caplog.records) == 2 * len(LOGGERS)
    assert "SECRET" not in caplog.text
    assert "ValueError: https://h/a" in caplog.text
    assert all("SECRET" not in str(vars(record)) for record in caplog.records)


def test_records_of_our_own_program_are_redacted_from_the_start() -> None:
    record = RedactedRecord("any", logging.INFO, "a.py", 1, "%s", ("https://h/a?sig=SECRET",), None)
    assert (record.getMessage(), record.args) == ("https://h/a", ())


def test_tracebacks_are_redacted_with_all_their_causes() -> None:
    try:
        try:
            raise OSError("https://h/a?sig=SECRET")
        except OSError as cause:
            raise ValueError("Authorization: SECRET") from cause
    except ValueError as error:
        shown = redacted_traceback(error)
    assert "SECRET" not in shown.replace('"https://h/a?sig=SECRET"', "").replace('"Authorization: SECRET"', "")
    assert shown.startswith("Traceback")
    assert "OSError: https://h/a\n" in shown


BUGGY = """
import logging, sys, threading
import typer
from geossl_cli.console import run_app
logging.basicConfig(level=logging.DEBUG)
secret = "CANARY" + "7"
app = typer.Typer(pretty_exceptions_enable=False)

@app.command()
def bug():
    url = f"https://user:{secret}@h.example/a.tif?sig={secret}"
    logging.getLogger("any.library").warning("asking %s", url)
    thread = threading.Thread(target=lambda: [][len(f"{url}")] if not url else (_ for _ in ()).throw(KeyError(url)))
    thread.start()
    thread.join()
    raise RuntimeError(f"cannot read {url} with {{'Authorization': 'Bearer {secret}'}}")

sys.exit(run_app(app))
"""


def test_6_02_a_bug_keeps_its_traceback_and_loses_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "buggy.py").write_text(BUGGY)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "buggy.py")], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "CANARY7" not in done.stdout + done.stderr
    assert "WARNING:any.library:asking https://h.example/a.tif" in done.stderr
    assert done.stderr.count("Traceback (most recent call last)") == 2
    assert "RuntimeError: cannot read https://h.example/a.tif" in done.stderr
    assert "KeyError: 'https://h.example/a.tif'" in done.stderr
