"""What pytest needs for the notebooks: nbval compares text and numbers, but no warnings, tables' HTML or pictures."""

from typing import Any


def pytest_collectstart(collector: Any) -> None:
    """Tell nbval which outputs differ between machines and are not compared."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr", "text/html", "image/png", "image/svg+xml")
