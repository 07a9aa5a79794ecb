"""A few rows of `review_scores`, published and read back, and a root in an S3 stand-in of this process."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from jobs.lake import tables
from jobs.lake.schemas import REVIEW_SCORES
from jobs.storage import Root, StorageSettings, parse_root

JANUARY, FEBRUARY = datetime.date(2015, 1, 1), datetime.date(2015, 2, 1)
NOW = datetime.datetime(2015, 3, 1, tzinfo=datetime.UTC)


def scores(*rows: tuple[str, datetime.date, float], version: str = "m-1") -> pa.Table:
    base = {"model_version": version, "text_hash": "h", "logit": 0.0, "token_count": 5, "is_truncated": False}
    constants = {"engine": "torch", "precision": "float32", "error": None, "scored_at": NOW, "run_id": "r"}
    listed = [
        {**base, "review_id": i, "review_month": m, "raw_probability": p, "probability": p, **constants}
        for i, m, p in rows
    ]
    return pa.Table.from_pylist(listed, schema=REVIEW_SCORES.schema)


def publish(root: Root, rows: pa.Table, *months: datetime.date, **options: Any) -> None:
    scope = {"model_version": ["m-1"], "review_month": months}
    tables.publish(
        root, "review_scores", "r", lambda _: tables.stage_arrow(rows, root, "review_scores", "r", scope), **options
    )


def stored(root: Root) -> list[tuple[str, float]]:
    return sorted(
        (row["review_id"], row["probability"]) for row in tables.read_arrow(root, "review_scores").to_pylist()
    )


@contextmanager
def object_store() -> Iterator[str]:
    """The endpoint of an S3 stand-in of this process, until the block ends."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3_settings(endpoint: str) -> StorageSettings:
    """How the stand-in is reached; tests/conftest.py sets the secrets."""
    return StorageSettings(
        endpoint_url=endpoint, region="us-east-1", access_key_id_env="TEST_KEY_ID", secret_access_key_env="TEST_SECRET"
    )


def s3_root(endpoint: str) -> Root:
    """A root in a new bucket of the stand-in."""
    import boto3

    bucket = f"reviews-{time.time_ns()}"
    boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
    ).create_bucket(Bucket=bucket)
    return parse_root(f"s3://{bucket}/some/prefix", s3_settings(endpoint))
