"""Models on their way to workers: an archive that was damaged is made anew, and nothing damaged is loaded."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pyspark import SparkFiles
from pyspark.sql.functions import lit, struct

from jobs.config import Config
from jobs.lake import tables
from jobs.outages import worker_errors
from jobs.registry.bundles import serving_folder
from jobs.registry.models import champion
from jobs.scoring.ship import ship
from jobs.scoring.udfs import scoring_udf
from model.errors import OutageError, ReviewriskError
from model.files import file_sha256, folder_sha256


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_an_archive_that_was_damaged_is_made_anew(spark: Any, trained: Config, tmp_path: Path) -> None:
    folder = serving_folder(trained, champion(trained.root))
    ship(spark, folder)
    archive = folder.with_name(f"{folder.name}.tar")
    whole = file_sha256(archive)
    flip_a_bit(archive)
    ship(spark, folder)
    assert file_sha256(archive) == whole
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    assert folder_sha256(tmp_path / "unpacked") == folder_sha256(folder)
    assert not [path.name for path in folder.parent.iterdir() if path.name not in (folder.name, archive.name)]


@pytest.mark.parametrize("name", ["model.safetensors", "serving.json", "calibrator.json"])
def test_a_serving_folder_that_was_damaged_is_made_anew(trained: Config, name: str) -> None:
    folder = serving_folder(trained, champion(trained.root))
    whole = file_sha256(folder / name)
    flip_a_bit(folder / name)
    assert serving_folder(trained, champion(trained.root)) == folder
    assert file_sha256(folder / name) == whole


@pytest.mark.parametrize("name", ["model.safetensors", "serving.json"])
def test_a_worker_loads_nothing_that_was_damaged_on_its_way(
    spark: Any, trained: Config, tmp_path: Path, name: str
) -> None:
    shipped = f"damaged-{name.split('.')[0]}"
    ship(spark, shutil.copytree(serving_folder(trained, champion(trained.root)), tmp_path / shipped))
    spark.range(1).mapInArrow(lambda batches: batches, "id long").collect()  # the first task unpacks the archive
    flip_a_bit(Path(SparkFiles.getRootDirectory()) / shipped / name)
    settings = trained.score.model_copy(update={"rows_per_buffer": 701})  # so that no worker has the model already
    udf = scoring_udf({shipped: settings}, 701, 1)
    rows = tables.read_frame(spark, trained.root, "reviews").limit(3).withColumn("model_version", lit(shipped))
    columns = ("review_id", "review_month", "text_hash", "model_version", "review_headline", "review_body")
    with (
        pytest.raises(ReviewriskError, match=rf"{name} is damaged: run the command again"),
        worker_errors("the table"),
    ):
        rows.select(udf(struct(*columns))).collect()


def test_a_worker_that_died_is_one_sentence(spark: Any) -> None:
    def die(batches: Any) -> Any:
        import os

        os._exit(9)
        yield

    sentence = r"^A Python worker of Spark died, .*run the command again\.$"
    with pytest.raises(OutageError, match=sentence), worker_errors("the table"):
        spark.range(1).mapInArrow(die, "id long").collect()


def test_an_error_that_is_not_ours_keeps_its_trace(spark: Any) -> None:
    def wrong(batches: Any) -> Any:
        raise ZeroDivisionError("a defect")
        yield

    with pytest.raises(Exception, match="ZeroDivisionError: a defect") as raised, worker_errors("the table"):
        spark.range(1).mapInArrow(wrong, "id long").collect()
    assert not isinstance(raised.value, ReviewriskError)
