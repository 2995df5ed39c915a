"""Makes toy_scenes importable from every test, and begins with the slow ones, so that no worker waits for another."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
