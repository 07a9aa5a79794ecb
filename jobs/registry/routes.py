"""Which model decides for which reviews: the routes of the config, those in force (`model_routes`), and the version of
each row.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.config import RoutingSettings
from jobs.lake import tables
from jobs.lake.schemas import MODEL_ROUTES
from jobs.storage import Root

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


@dataclass(frozen=True)
class Routes:
    """The model of each value (see `model.settings.route_key`) of one column of `reviews`. None at all: the champion
    decides everywhere.
    """

    column: str = "product_category"
    models: dict[str, str] = field(default_factory=dict)

    def versions(self, champion: str) -> list[str]:
        """Every model that decides for some reviews, the champion first, each once."""
        return list(dict.fromkeys([champion, *(self.models[value] for value in sorted(self.models))]))

    def values_of(self, version: str) -> list[str]:
        """The values whose reviews a model decides for by a route, sorted."""
        return sorted(value for value, routed in self.models.items() if routed == version)


def configured_routes(settings: RoutingSettings) -> Routes:
    """The routes that the config asks for; whether their models may decide is `registry.routable`'s to say."""
    return Routes(settings.column, settings.by_key) if settings.models else Routes()


def published_routes(root: Root) -> Routes:
    """The routes in force: what every reader of scores goes by. A root that an earlier version of the code made has no
    such table, and so none.
    """
    if not tables.is_there(root, "model_routes"):
        return Routes()
    rows = tables.read_arrow(root, "model_routes").to_pylist()
    return (
        Routes(rows[0]["route_column"], {row["route_value"]: row["model_version"] for row in rows})
        if rows
        else Routes()
    )


def publish_routes(root: Root, routes: Routes, run_id: str, now: datetime.datetime) -> bool:
    """Put routes into force in one commit; False, and no commit, where they are in force already. A route that stays
    keeps its set_at.
    """
    if published_routes(root) == routes:
        return False

    def changed(before: pa.Table) -> pa.Table:
        known = {(row["route_column"], row["route_value"], row["model_version"]): row for row in before.to_pylist()}
        keys = [(routes.column, value, version) for value, version in routes.models.items()]
        fresh = {"set_at": now, "run_id": run_id}
        rows = [
            known.get(key) or dict(zip(("route_column", "route_value", "model_version"), key, strict=True)) | fresh
            for key in keys
        ]
        return pa.Table.from_pylist(rows, schema=MODEL_ROUTES.schema)

    tables.replace_rows(root, "model_routes", run_id, changed)
    return True


def assigned(reviews: DataFrame, routes: Routes, champion: str) -> DataFrame:
    """The reviews with one more column, `model_version`: the model that decides for the row. Reads the routes' column
    of `reviews`.
    """
    from pyspark.sql import functions as F

    version: Column = F.lit(champion)
    if routes.models:
        value = F.lower(F.trim(F.col(routes.column)))  # as dbt makes category_key
        key = F.coalesce(F.nullif(value, F.lit("")), F.lit("unknown"))
        for routed in routes.versions(champion)[1:]:
            version = F.when(key.isin(routes.values_of(routed)), F.lit(routed)).otherwise(version)
    return reviews.withColumn("model_version", version)
