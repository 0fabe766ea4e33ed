"""Measures the service against studies whose truth is known: ``trauma-api evaluate``."""
