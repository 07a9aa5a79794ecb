"""The config: one complete YAML read into frozen settings. An unknown key is refused with the nearest known one."""

from __future__ import annotations

import datetime
import difflib
import hashlib
import os
import reprlib
import tempfile
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from jobs.outages import outage, redacted
from jobs.storage import Root, StorageSettings, parse_root, usable_path
from model.errors import ReviewriskError
from model.settings import AttributionSettings, ModelSettings, PromotionSettings, ScoringSettings, Settings, route_key

# none: a quote belongs to the text. double: quotes wrap fields, and stand twice for one in the text (RFC 4180).
Quoting = Literal["none", "double"]
DEEPEST = 12


class PathSettings(Settings):
    """Where things lie. `root` is overridden by the environment variable REVIEWRISK_ROOT."""

    root: str
    warehouse: str | None = Field(
        None, description="DuckDB file that dbt builds; None: <root>/warehouse/reviewrisk.duckdb."
    )
    scratch: str | None = Field(
        None,
        description=(
            "Local folder for checkpoints and unpacked bundles; None: <root>/work, or a temporary folder for s3."
        ),
    )


class SparkSettings(Settings):
    """The Spark session. Under spark-submit, `master` and memory given there win."""

    master: str = "local[2]"
    driver_memory: str = "4g"
    shuffle_partitions: int = Field(8, ge=1)
    records_per_batch: int = Field(2000, ge=1, description="Rows of one Arrow batch at most.")
    bytes_per_batch: str = Field(
        "16m", description="Size of one Arrow batch at most: long texts must not kill a worker."
    )
    options: dict[str, str] = Field(default_factory=dict, description="Any further Spark options, by their full names.")


class IngestSettings(Settings):
    """What an ingested file may hold."""

    max_rejected_share: float = Field(
        0.01, ge=0, le=1, description="A file with a greater share of rejected lines is refused whole."
    )
    quoting: Quoting = Field(
        "none",
        description=(
            "How quotes in a file are read. none: they belong to the text, as Amazon writes it. double: they wrap"
            ' fields and are doubled inside ("…""…"), as pandas writes them; a field ends in the line'
            " that it begins."
        ),
    )


class SplitSettings(Settings):
    """The temporal splits, fixed once when the corpus is built. Rows after test_end are `live`."""

    mode: Literal["given", "auto"] = "auto"
    train_end: datetime.date | None = None
    validation_end: datetime.date | None = None
    test_end: datetime.date | None = None
    train_share: float = Field(0.7, gt=0, lt=1, description="auto: share of the oldest rows that train.")
    validation_share: float = Field(
        0.15, gt=0, lt=1, description="auto: share of the rows after them; the rest is test."
    )

    @model_validator(mode="after")
    def _complete(self) -> SplitSettings:
        dates = (self.train_end, self.validation_end, self.test_end)
        if self.mode == "auto" and any(dates):
            raise ValueError(
                "mode is auto, so train_end, validation_end and test_end must be left out (or set mode: given)"
            )
        if self.mode == "auto" and self.train_share + self.validation_share >= 1:
            raise ValueError("train_share + validation_share must be below 1, so that rows are left for the test split")
        if self.mode == "given":
            if self.train_end is None or self.validation_end is None or self.test_end is None:
                raise ValueError("mode is given, so train_end, validation_end and test_end are all needed")
            if not self.train_end < self.validation_end < self.test_end:
                raise ValueError("train_end < validation_end < test_end must hold")
        return self


class SampleSettings(Settings):
    """The synthetic reviews of the demo."""

    rows: int = Field(20_000, ge=500)
    seed: int = 17


class RoutingSettings(Settings):
    """Which registered model decides for which reviews, by one column of theirs.

    The champion decides for all others.
    """

    column: Literal["product_category", "marketplace"] = Field(
        "product_category", description="The column of `reviews` that routes go by."
    )
    models: dict[str, str] = Field(
        default_factory=dict, description="Value of the column, in any case, and the model_version that decides for it."
    )

    @model_validator(mode="after")
    def _each_value_once(self) -> RoutingSettings:
        written: dict[str, str] = {}
        for value in self.models:
            other = written.setdefault(route_key(value), value)
            if other != value:
                raise ValueError(
                    f"{other!r} and {value!r} are the same value without regard to case and outer blanks: keep one of"
                    " them"
                )
        return self

    @property
    def by_key(self) -> dict[str, str]:
        """The model_version of each value as it is compared, see `route_key`."""
        return {route_key(value): version for value, version in self.models.items()}


class CascadeSettings(Settings):
    """Whether reviews that the TF-IDF baseline finds surely satisfied skip the network."""

    max_flipped_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description=(
            "Of all reviews, decided otherwise than by the network at any one threshold; None: all go through it."
        ),
    )


class ScoreSettings(ScoringSettings):
    """Scoring on Spark: the engine's settings, the cascade, and the size of tasks and commits."""

    cascade: CascadeSettings = CascadeSettings()

    rows_per_task: int = Field(
        1000, ge=1, description="Rows of one Spark task: small enough for a moving progress line."
    )
    tasks_per_gpu: int = Field(
        1,
        ge=1,
        description=(
            "Tasks at once that share the GPU in Spark's local mode, each with a model of its own; on a cluster"
            " spark.task.resource.gpu.amount says so."
        ),
    )
    rows_per_commit: int = Field(
        250_000,
        ge=1,
        description="Whole months are published together up to so many rows; a killed job loses at most those.",
    )
    max_failed_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="A run with a greater share of reviews that cannot be scored fails; rounded up to reviews.",
    )


class ExplainSettings(AttributionSettings):
    """Explaining on Spark, within bounds where they are set: newest reviews first; what is left over is said."""

    months: int | None = Field(
        None, ge=1, description="Only reviews of so many newest months that hold scored reviews; None: all."
    )
    max_rows: int | None = Field(None, ge=1, description="At most so many reviews a run; None: all.")
    rows_per_task: int = Field(128, ge=1, description="Reviews explained together, so that those of like length meet.")
    rows_per_commit: int = Field(10_000, ge=1)
    max_failed_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="A run with a greater share of reviews that cannot be explained fails; rounded up to reviews.",
    )


class ReportSettings(Settings):
    """What the printed report shows."""

    months: int = Field(6, ge=1)
    products: int = Field(5, ge=1)
    words: int = Field(10, ge=1)
    minimum_reviews: int = Field(20, ge=1, description="Products with fewer labelled reviews are not ranked.")


class PublishedFigures(Settings):
    """Somebody's published result, to stand beside what a run gives. `train` and `models show` print both; it changes
    nothing in a run.
    """

    source: str
    status: str = Field(
        description=(
            "What is known of the published figures, not of the run beside them; it stands in the heading above both."
        )
    )
    rows: int
    auc: float
    f1: float
    ece: float
    baseline_auc: float
    baseline_f1: float
    trainable_parameters: int
    total_parameters: int
    tolerance_auc: float
    tolerance_f1: float
    tolerance_ece: float


class Config(Settings):
    """Everything a command needs to know."""

    paths: PathSettings
    storage: StorageSettings = StorageSettings()
    spark: SparkSettings = SparkSettings()
    sample: SampleSettings = SampleSettings()
    ingest: IngestSettings = IngestSettings()
    splits: SplitSettings = SplitSettings()
    model: ModelSettings = ModelSettings()
    promotion: PromotionSettings = PromotionSettings()
    routing: RoutingSettings = RoutingSettings()
    score: ScoreSettings = ScoreSettings()
    explain: ExplainSettings = ExplainSettings()
    report: ReportSettings = ReportSettings()
    reference: PublishedFigures | None = None

    @property
    def root(self) -> Root:
        return parse_root(self.paths.root, self.storage)

    @property
    def scratch(self) -> Path:
        """A local folder for what may be lost."""
        if self.paths.scratch:
            return usable_path("paths.scratch", self.paths.scratch)
        root = self.root
        if root.is_local:
            return root.local_path / "work"
        return Path(tempfile.gettempdir()) / f"reviewrisk-{hashlib.sha256(root.uri.encode()).hexdigest()[:12]}"

    def with_split_ends(
        self,
        train_end: datetime.datetime | None,
        validation_end: datetime.datetime | None,
        test_end: datetime.datetime | None,
    ) -> Config:
        """This config with given split boundaries; itself where none of the three is given."""
        ends = {"train_end": train_end, "validation_end": validation_end, "test_end": test_end}
        days = {name: end.date() for name, end in ends.items() if end}
        if not days:
            return self
        if len(days) < len(ends):
            given, missing = (
                ", ".join(f"--{name.replace('_', '-')}" for name in ends if (name in days) == is_given)
                for is_given in (True, False)
            )
            raise ReviewriskError(
                f"{given} alone does not set the splits: give {missing} too, or none of the three to take the config's"
                " splits."
            )
        return _validated(
            {**self.model_dump(), "splits": {**self.splits.model_dump(), "mode": "given", **days}},
            "The config with the split dates of the command line",
        )

    def with_only(self, only: str | None) -> Config:
        """This config with another `model.rows.only`; itself where none is given."""
        if only is None:
            return self
        values = self.model_dump()
        return _validated(
            {**values, "model": {**values["model"], "rows": {"only": only}}}, "The config with this --only"
        )

    @property
    def warehouse(self) -> Path | None:
        """The DuckDB file given in the config, if one is."""
        return usable_path("paths.warehouse", self.paths.warehouse) if self.paths.warehouse else None


def load_config(path: Path | None) -> Config:
    """The settings of a YAML file, with REVIEWRISK_ROOT over `paths.root`; without a file, defaults around
    REVIEWRISK_ROOT.
    """
    root = os.environ.get("REVIEWRISK_ROOT")
    if path is None:
        if not root:
            raise ReviewriskError(
                "Name a config by --conf FILE (conf/local.yml is a start), or a root in the environment variable"
                " REVIEWRISK_ROOT."
            )
        return _with_usable_places(_validated({"paths": {"root": root}}, "The root in REVIEWRISK_ROOT"))
    values = _read_yaml(path)
    if root:
        values["paths"] = {**(values.get("paths") or {}), "root": root}
    return _with_usable_places(_validated(values, f"The config {path}"))


def _with_usable_places(config: Config) -> Config:
    """The config, once each place that it names could be used by every step: else nothing begins."""
    _ = (config.root, config.warehouse, config.scratch)
    return config


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_tricks(text, path)
        values = yaml.safe_load(text)
    except FileNotFoundError:
        raise ReviewriskError(
            f"There is no config {path}. The ones that come with reviewrisk: demo, local, nightly, reference, test."
        ) from None
    except UnicodeDecodeError:
        raise ReviewriskError(f"The config {path} is not UTF-8 text: save it as UTF-8.") from None
    except OSError as error:
        raise outage(error, f"The config {path}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise ReviewriskError(f"The config {path} is not valid YAML{_place(error)}: correct it.") from None
    if not isinstance(values, dict):
        raise ReviewriskError(f"The config {path} holds no settings: it must be a YAML mapping such as conf/local.yml.")
    return values


def _refuse_tricks(text: str, path: Path) -> None:
    """Raise where a few lines of YAML could grow without bounds: by aliases, or by a nesting that no config has."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
            found = "an alias" if isinstance(event, yaml.AliasEvent) else f"more than {DEEPEST} levels"
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise ReviewriskError(
                f"The config {path} has {found} in line {line}: write each value out, as conf/local.yml does."
            )


def _place(error: Exception) -> str:
    """Where YAML cannot be read and why, without the text that stands there: it may be a secret."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return ", as it has a value that YAML does not allow, such as a date that does not exist"
    return f" in line {mark.line + 1}, column {mark.column + 1}"


def _validated(values: dict[str, Any], source: str) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = "\n".join(f"  {_problem(detail)}" for detail in error.errors())
        raise ReviewriskError(f"{source} is not valid; correct this:\n{problems}") from None


def _problem(detail: Any) -> str:
    location = tuple(str(part) for part in detail["loc"])
    key = ".".join(location)
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key; the nearest known one is {_nearest_key(key)!r}"
    # What is set for storage and Spark's options may be a secret, put in the place of its name.
    is_shown = detail["type"] != "missing" and location[0] not in ("storage", "spark")
    said = detail["msg"].removeprefix("Value error, ")
    return f"{key}: {said}" + (f" (it is {redacted(reprlib.repr(detail['input']))})" if is_shown else "")


def _nearest_key(key: str) -> str:
    """The known key, anywhere in the config, that an unknown one most likely means: one that ends alike first, then the
    one most like it.
    """
    known = _known_keys(Config)
    same_end = [one for one in known if one.rpartition(".")[2] == key.rpartition(".")[2]]
    return max(same_end or known, key=lambda one: difflib.SequenceMatcher(None, one, key).ratio())


def _known_keys(section: type[BaseModel], before: str = "") -> list[str]:
    """Every key that the section may have and those of the sections in it, as full paths."""
    found = []
    for name, field in section.model_fields.items():
        found.append(before + name)
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found += _known_keys(kind, f"{before}{name}.")
    return found
