"""Pairs → candidate places → samples: where to look, when, and in which split. No pixels are read here."""
