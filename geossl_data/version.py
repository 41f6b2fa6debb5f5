"""The one place where the version stands; the packaging metadata and every written file read it here."""

VERSION = "0.1.0"
