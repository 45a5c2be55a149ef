"""The mark of tests that require an old zc.zrs."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line("markers", "interop: needs a live zc.zrs, see setup/old-peer.sh")
