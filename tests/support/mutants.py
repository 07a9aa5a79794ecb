"""A plugin of pytest for `make mutants`: quick tests first, a failure ends its test at once, one Spark for all mutants.

Without it most of the time went into tests that had failed already, hypothesis looking for a smaller example, and each
mutant with Spark would start a JVM of its own.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import Phase, settings

QUICK = 0.2  # seconds; below it tests stay beside the others of their file, whose fixtures they share
DURATIONS = Path("mutmut-stats.json")
WITH_SPARK = "REVIEWRISK_MUTANTS_WITH_SPARK"

settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate), derandomize=True, database=None)
settings.load_profile("mutants")


def pytest_configure(config: pytest.Config) -> None:
    if WITH_SPARK in os.environ:
        config.option.markexpr = "not long"


def _own_tests() -> set[str]:
    """The test files of the mutated modules themselves."""
    modules = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutmut"]["only_mutate"]
    return {str(Path("tests", module).with_name(f"test_{Path(module).name}")) for module in modules}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    own = _own_tests()  # with Spark, those of others would take hours
    items[:] = [
        item for item in items if "spark" not in getattr(item, "fixturenames", ()) or item.nodeid.split("::")[0] in own
    ]
    seconds = json.loads(DURATIONS.read_text())["duration_by_test"] if DURATIONS.exists() else {}
    items.sort(key=lambda item: (max(QUICK, seconds.get(item.nodeid, QUICK)), item.nodeid))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Starts Spark in the process that mutmut forks for each mutant, the one that collects with -qqq."""
    if WITH_SPARK in os.environ and session.config.option.collectonly and session.config.option.verbose <= -3:
        from pyspark.sql import SparkSession

        from jobs.config import load_config
        from jobs.spark.session import build_session
        from tests import ROOT

        build_session(load_config(ROOT / "conf" / "test.yml").spark)
        SparkSession.stop = lambda self: None  # type: ignore[method-assign]  # the next mutant needs it


def pytest_sessionstart() -> None:
    """Leaves nothing of the mutant before in Spark, and tells its workers which mutant they are to be."""
    if WITH_SPARK in os.environ:
        from pyspark.sql import SparkSession

        if inherited := SparkSession.getActiveSession():
            inherited.catalog.clearCache()
            inherited.sparkContext.environment["MUTANT_UNDER_TEST"] = os.environ.get("MUTANT_UNDER_TEST", "")
