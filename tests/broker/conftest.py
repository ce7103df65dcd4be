"""Fixtures for tests against real brokers."""

from __future__ import annotations

from tests.support.brokers import broker, broker_url

__all__ = ["broker", "broker_url"]
