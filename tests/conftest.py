"""One Spark session for all tests, and a root of its own for each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config, load_config
from tests import ROOT

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Of the S3 stand-in (tests/support/score_rows.py), and set before Spark starts, so that its workers have them too.
os.environ.update(TEST_KEY_ID="invented-key", TEST_SECRET="invented-secret")
os.environ.pop("REVIEWRISK_ROOT", None)  # whoever works on a root of their own must not have tests write into it
# Real reviews, where there are any: they are no part of the project.
REAL_DATA = Path(os.environ.get("REVIEWRISK_REAL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from jobs.spark.session import build_session

    config = load_config(ROOT / "conf" / "test.yml")
    session = build_session(config.spark)
    yield session
    session.stop()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test with Spark gets the marker `spark`, so that `-m "not spark"` runs the others."""
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker("spark")


@pytest.fixture(autouse=True)
def nothing_stays_persisted(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test with Spark fails if a frame is still persisted at its end."""
    yield
    if "spark" in request.fixturenames:
        shared = request.getfixturevalue("spark")._jsparkSession.sharedState()
        assert shared.cacheManager().isEmpty(), "a persisted frame was not released"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """conf/test.yml around a root of the test's own."""
    monkeypatch.setenv("REVIEWRISK_ROOT", str(tmp_path / "root"))
    return load_config(ROOT / "conf" / "test.yml")


def real_data(name: str) -> Path:
    """A file of real reviews; the test is skipped where the folder is not there."""
    path = REAL_DATA / name
    if not path.exists():
        pytest.skip(
            f"real reviews are not at hand: {name} is looked for in {REAL_DATA}; REVIEWRISK_REAL_DATA names another"
            " folder"
        )
    return path


@pytest.fixture(scope="session")
def built(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A root with a corpus and a champion. Tests that write take `trained`, a copy of it."""
    from tests.support.trained_root import build

    folder = tmp_path_factory.mktemp("built")
    base = load_config(ROOT / "conf" / "test.yml")
    return build(
        spark, base.model_copy(update={"paths": base.paths.model_copy(update={"root": str(folder / "root")})}), folder
    )


@pytest.fixture
def trained(built: Config, tmp_path: Path) -> Config:
    """A copy of the built root for one test."""
    from tests.support.trained_root import copied

    return copied(built, tmp_path / "root")
