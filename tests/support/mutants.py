"""A plugin of pytest for `make mutants`: quick tests first, and a failure ends its test at once.

Without it most of the time went into tests that had failed already: hypothesis looking for a smaller example.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import Phase, settings

QUICK = 0.2  # seconds; below it tests stay beside the others of their file, whose fixtures they share
DURATIONS = Path("mutmut-stats.json")

settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate), derandomize=True, database=None)
settings.load_profile("mutants")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seconds = json.loads(DURATIONS.read_text())["duration_by_test"] if DURATIONS.exists() else {}
    items.sort(key=lambda item: (max(QUICK, seconds.get(item.nodeid, QUICK)), item.nodeid))
