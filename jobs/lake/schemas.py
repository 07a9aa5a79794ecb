"""Every table: one pyarrow schema each, its partition columns, its key and what each column means.

Arrow is the source because all machines have it: Spark's StructType, the DDL under sql/ddl and the Delta tables are
made from these. Timestamps are UTC, in microseconds. `review_month` is the first day of the review's month.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

UTC = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Table:
    """A table's name, grain and columns. `key` is unique; `partition_by` are the folders its files lie in."""

    name: str
    description: str
    schema: pa.Schema
    key: tuple[str, ...]
    partition_by: tuple[str, ...] = ()


def _column(name: str, kind: pa.DataType, description: str, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"comment": description})


def _required(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return _column(name, kind, description, nullable=False)


RUN_ID = _required("run_id", pa.string(), "The run that wrote the row; see job_runs.")
MODEL_VERSION = _required("model_version", pa.string(), "The model; see models.")
REVIEW_ID = _required("review_id", pa.string(), "The review; see reviews.")
REVIEW_MONTH = _required("review_month", pa.date32(), "First day of the month of review_date; a partition.")
TEXT_HASH = _required(
    "text_hash", pa.string(), "sha256 of the stored headline and body: tells whether the text changed."
)

# The 15 columns of the Amazon US Customer Reviews TSV, in the file's order.
RAW_COLUMNS: tuple[str, ...] = (
    "marketplace",
    "customer_id",
    "review_id",
    "product_id",
    "product_parent",
    "product_title",
    "product_category",
    "star_rating",
    "helpful_votes",
    "total_votes",
    "vine",
    "verified_purchase",
    "review_headline",
    "review_body",
    "review_date",
)

REVIEWS = Table(
    name="reviews",
    description="The latest version of each review, as it was written (no cleaning). One row per review_id.",
    key=("review_id",),
    partition_by=("split", "review_month"),
    schema=pa.schema(
        [
            _column("marketplace", pa.string(), "Country code of the shop, such as US."),
            _column("customer_id", pa.string(), "Who wrote the review."),
            REVIEW_ID,
            _column("product_id", pa.string(), "The product (ASIN)."),
            _column("product_parent", pa.string(), "Groups variants of one product."),
            _column("product_title", pa.string(), "The product's name."),
            _column("product_category", pa.string(), "As the source wrote it; compare it without regard to case."),
            _required(
                "star_rating", pa.int32(), "1 to 5. 1-2 is dissatisfied, 4-5 satisfied; 3 is neither and has no label."
            ),
            _column("helpful_votes", pa.int32(), "Votes that found the review helpful."),
            _column("total_votes", pa.int32(), "All votes on the review."),
            _column("vine", pa.bool_(), "Written in the Vine programme."),
            _column("verified_purchase", pa.bool_(), "The shop knows of the purchase."),
            _column(
                "review_headline", pa.string(), "The headline as written, HTML leftovers included; null where empty."
            ),
            _column("review_body", pa.string(), "The text as written, HTML leftovers included; null where empty."),
            _required("review_date", pa.date32(), "The day of the review."),
            _required(
                "split",
                pa.string(),
                "train, validation, test or live, by review_date; see splits. `retrain` uses live ones too. A"
                " partition.",
            ),
            REVIEW_MONTH,
            TEXT_HASH,
            _required("source_checksum", pa.string(), "sha256 of the source file; see sources."),
            _required("source_order", pa.int64(), "The source's place in the order of first ingestion."),
            _required("source_line", pa.int64(), "Line of the source file, the header being line 1."),
            _required("ingested_at", UTC, "Start of the run that ingested this version of the review."),
            RUN_ID,
        ]
    ),
)

REJECTED_REVIEWS = Table(
    name="rejected_reviews",
    description="Source lines that are no valid review, each with its reason. One row per source file and line.",
    key=("source_checksum", "source_line"),
    partition_by=("ingest_id",),
    schema=pa.schema(
        [
            _required("ingest_id", pa.string(), "The first 16 digits of source_checksum; a partition."),
            _required("source_checksum", pa.string(), "sha256 of the source file; see sources."),
            _required("source_file", pa.string(), "The file's name, without its folder."),
            _required("source_line", pa.int64(), "Line of the source file, the header being line 1."),
            _required(
                "reason",
                pa.string(),
                "blank_line, not_utf8, repeated_header, too_few_fields, too_many_fields, bad_quoting, or bad_ and a"
                " column.",
            ),
            _column("detail", pa.string(), "The value at fault or the number of fields found."),
            _required("raw_line", pa.string(), "The line; bytes that are not UTF-8 are shown as U+FFFD."),
            _column("raw_line_base64", pa.string(), "The line's exact bytes in base64, where they are not UTF-8."),
            RUN_ID,
        ]
    ),
)

SOURCES = Table(
    name="sources",
    description="Ingested files. One row per file content; its presence means that the file's rows are all published.",
    key=("source_checksum",),
    schema=pa.schema(
        [
            _required("source_checksum", pa.string(), "sha256 of the file as it lies, compressed or not."),
            _required("source_file", pa.string(), "The file's name, without its folder."),
            _required("source_bytes", pa.int64(), "Size of the file as it lies."),
            _required(
                "source_order",
                pa.int64(),
                "Place in the order of first ingestion, never given twice; later wins between equal review dates.",
            ),
            _required(
                "rows_read",
                pa.int64(),
                "Lines after the header, blank ones included; accepted + rejected + superseded.",
            ),
            _required("rows_accepted", pa.int64(), "Lines that are the latest version of their review."),
            _required("rows_rejected", pa.int64(), "Lines in rejected_reviews."),
            _required("rows_superseded", pa.int64(), "Valid lines older than another version of the same review."),
            _column("first_review_date", pa.date32(), "Earliest date among valid lines."),
            _column("last_review_date", pa.date32(), "Latest date among valid lines."),
            _required("ingested_at", UTC, "Start of the run that published the file."),
            RUN_ID,
        ]
    ),
)

SPLITS = Table(
    name="splits",
    description=(
        "The temporal splits, fixed when the corpus was built. One row per split. `retrain` cuts live by time again."
    ),
    key=("split",),
    schema=pa.schema(
        [
            _required("split", pa.string(), "train, validation, test or live."),
            _column("first_date", pa.date32(), "First day of the split; null: open."),
            _column("last_date", pa.date32(), "Last day of the split; null: open."),
            _required("origin", pa.string(), "given (dates in the config) or auto (resolved from shares of rows)."),
            RUN_ID,
        ]
    ),
)

MODELS = Table(
    name="models",
    description=(
        "Trained models with the test figures of their training. One row per model_version; at most one is champion."
    ),
    key=("model_version",),
    schema=pa.schema(
        [
            MODEL_VERSION,
            _required("status", pa.string(), "candidate, champion or retired."),
            _required("trained_at", UTC, "Start of the run that trained and registered it."),
            _column("promoted_at", UTC, "When it became champion."),
            _column("score_since", pa.date32(), "Reviews before this day are not scored by this model; null: all are."),
            _required("backbone", pa.string(), "Name of the pretrained encoder."),
            _required("backbone_revision", pa.string(), "Hub commit, or sha256 of the weights."),
            _required("pooling", pa.string(), "cls or mean."),
            _required("max_length", pa.int32(), "Tokens per review; longer texts are truncated."),
            _required("lora_rank", pa.int32(), "Rank of the adapter."),
            _required("lora_alpha", pa.float64(), "Scale numerator of the adapter."),
            _required("lora_targets", pa.string(), "Targeted modules."),
            _required("trainable_parameters", pa.int64(), "Parameters that were trained: LoRA and head."),
            _required("total_parameters", pa.int64(), "Distinct parameters."),
            _required("calibration", pa.string(), "Calibrator: none, prior_shift, temperature, beta or isotonic."),
            _required("data_version", pa.string(), "Fingerprint of the rows it was trained and tested on."),
            _required("train_rows", pa.int64(), "Labelled training rows used."),
            _required("validation_rows", pa.int64(), "Labelled validation rows."),
            _required(
                "test_rows", pa.int64(), "Labelled test rows (3 stars excluded); the denominator of all test_ columns."
            ),
            _required("test_auc", pa.float64(), "Area under the ROC curve on test."),
            _required("test_average_precision", pa.float64(), "Average precision on test."),
            _required(
                "test_f1",
                pa.float64(),
                "F1 of the dissatisfied class on test, at the default threshold of its training.",
            ),
            _required(
                "test_ece", pa.float64(), "Expected calibration error on test, equal-width bins of the probability."
            ),
            _required("test_brier", pa.float64(), "Brier score on test."),
            _required("test_log_loss", pa.float64(), "Log-loss on test, in nats."),
            _required("baseline_auc", pa.float64(), "AUC of TF-IDF + logistic regression on the same rows."),
            _required(
                "baseline_f1",
                pa.float64(),
                "F1 of TF-IDF + logistic regression on the same rows, at a threshold of its own, fitted alike.",
            ),
            _column(
                "row_filter",
                pa.string(),
                "Column=value that all its training, validation and test reviews have; null: it was made for all"
                " reviews.",
            ),
            _column(
                "test_f1_low",
                pa.float64(),
                "Lower limit of test_f1's interval (bootstrap of whole products; see model.thresholds.confidence).",
            ),
            _column("test_f1_high", pa.float64(), "Its upper limit."),
            _column("f1_gain", pa.float64(), "test_f1 - baseline_f1."),
            _column(
                "f1_gain_low",
                pa.float64(),
                "Lower limit of f1_gain's interval (paired bootstrap of whole products; see"
                " model.thresholds.confidence).",
            ),
            _column("f1_gain_high", pa.float64(), "Its upper limit."),
            _column("beats_baseline", pa.bool_(), "f1_gain_low is above 0: the gain over TF-IDF is more than chance."),
            _column(
                "test_f1_ratings_masked",
                pa.float64(),
                "test_f1 with phrases that state the rating masked in headline and body.",
            ),
            _column(
                "test_ece_debiased",
                pa.float64(),
                "Expected calibration error less what chance adds, bins of equal mass.",
            ),
            _column(
                "promotion_reason",
                pa.string(),
                "Why it was promoted against the rules (`models promote --override`); null: by the rules.",
            ),
            _required("bundle_path", pa.string(), "Folder of the bundle, relative to the root."),
            _required("bundle_checksum", pa.string(), "sha256 of the bundle's manifest.json."),
            RUN_ID,
        ]
    ),
)

MODEL_THRESHOLDS = Table(
    name="model_thresholds",
    description="Decision thresholds on the calibrated probability. One row per model_version and threshold_name.",
    key=("model_version", "threshold_name"),
    partition_by=("model_version",),
    schema=pa.schema(
        [
            MODEL_VERSION,
            _required(
                "threshold_name",
                pa.string(),
                "f1_max, cost_<missed>_<false alarm>, precision_<p>, recall_<r>, review_low, review_high.",
            ),
            _required("threshold", pa.float64(), "A review is flagged where its probability is at least this."),
            _required("is_default", pa.bool_(), "The one threshold of the model that reports use."),
            _required("is_active", pa.bool_(), "Reviews above any active threshold are explained."),
            _column(
                "precision",
                pa.float64(),
                "Share of dissatisfied among flagged, on labelled test rows; null where none is flagged.",
            ),
            _required("recall", pa.float64(), "Share of flagged among dissatisfied, on labelled test rows."),
            _required("f1", pa.float64(), "F1 of the dissatisfied class on labelled test rows."),
            _required("flagged_share", pa.float64(), "Share of flagged among labelled test rows."),
            _column(
                "precision_low",
                pa.float64(),
                "Lower limit of precision's interval (bootstrap of whole products; see model.thresholds.confidence).",
            ),
            _column("precision_high", pa.float64(), "Its upper limit."),
            _column("recall_low", pa.float64(), "Lower limit of recall's interval, alike."),
            _column("recall_high", pa.float64(), "Its upper limit."),
            _column("flagged_share_low", pa.float64(), "Lower limit of flagged_share's interval, alike."),
            _column("flagged_share_high", pa.float64(), "Its upper limit."),
            _column(
                "purpose",
                pa.string(),
                "What it is for, in words; a guarantee is for reviews and products like those of validation.",
            ),
            RUN_ID,
        ]
    ),
)

MODEL_ROUTES = Table(
    name="model_routes",
    description=(
        "Which reviews another model than the champion decides for. One row per route_value; all share a route_column."
    ),
    key=("route_value",),
    schema=pa.schema(
        [
            _required(
                "route_column", pa.string(), "The column of reviews that is compared: product_category or marketplace."
            ),
            _required(
                "route_value",
                pa.string(),
                "Its value in lower case without outer blanks; unknown: reviews that have none.",
            ),
            _required("model_version", pa.string(), "The model that decides for these reviews; see models."),
            _required("set_at", UTC, "When the route came into force, which is after its reviews were scored."),
            RUN_ID,
        ]
    ),
)

REVIEW_SCORES = Table(
    name="review_scores",
    description=(
        "What a model says of a review. One row per model_version and review_id; 3-star and empty reviews included."
    ),
    key=("model_version", "review_id"),
    partition_by=("model_version", "review_month"),
    schema=pa.schema(
        [
            MODEL_VERSION,
            REVIEW_ID,
            REVIEW_MONTH,
            TEXT_HASH,
            _column("logit", pa.float64(), "Log-odds of dissatisfaction before calibration; null where error is set."),
            _column("raw_probability", pa.float64(), "Sigmoid of logit; null where error is set."),
            _column(
                "probability",
                pa.float64(),
                "Calibrated probability of 1-2 stars, given not 3; null where error is set.",
            ),
            _column(
                "token_count",
                pa.int32(),
                "Tokens before truncation, [CLS] and [SEP] included; counting stops at 8,192.",
            ),
            _column("is_truncated", pa.bool_(), "The text was longer than the model reads."),
            _column(
                "has_rating_phrase",
                pa.bool_(),
                "Headline or body states the rating itself (One Star, 5 out of 5): the label read back.",
            ),
            _required("engine", pa.string(), "What computed it, such as torch; tfidf: the baseline (score.cascade)."),
            _required("precision", pa.string(), "Its arithmetic: float32, bfloat16, float16, int8; float64 of tfidf."),
            _column(
                "error",
                pa.string(),
                "Why there is no score (no_text: the model reads nothing); else null.",
            ),
            _required("scored_at", UTC, "Start of the run that scored the row."),
            RUN_ID,
        ]
    ),
)

TOKEN_ATTRIBUTIONS = Table(
    name="token_attributions",
    description=(
        "The words that moved a flagged review's logit most. One row per model_version, review_id and attribution_rank."
    ),
    key=("model_version", "review_id", "attribution_rank"),
    partition_by=("model_version", "review_month"),
    schema=pa.schema(
        [
            MODEL_VERSION,
            REVIEW_ID,
            REVIEW_MONTH,
            TEXT_HASH,
            _required(
                "attribution_rank",
                pa.int32(),
                "1 is the greatest absolute attribution; 0 is the one row of a review without words.",
            ),
            _column(
                "word", pa.string(), "The word as it stands in the text; null at rank 0, as is all that tells of it."
            ),
            _column("field", pa.string(), "headline or body."),
            _column("char_start", pa.int32(), "First character of the word in the stored field, from 0."),
            _column("char_end", pa.int32(), "One past the word's last character."),
            _column(
                "attribution",
                pa.float64(),
                "Share of the logit: above 0 towards dissatisfied, below 0 towards satisfied.",
            ),
            _column(
                "word_kind",
                pa.string(),
                "rating (it states the stars), negation, function (article, pronoun …) or content.",
            ),
            _column(
                "phrase",
                pa.string(),
                "The word with those beside it that push towards dissatisfied too: fell apart.",
            ),
            _required("method", pa.string(), "integrated_gradients."),
            _column(
                "nodes",
                pa.int32(),
                "Places of the path whose gradients the last quadrature used; null where the computing failed.",
            ),
            _column(
                "convergence_delta",
                pa.float64(),
                "Sum of all attributions minus the change in logit; null where the computing failed.",
            ),
            _required(
                "is_converged",
                pa.bool_(),
                "|convergence_delta| is below the limit; else the cap of nodes was reached or computing failed.",
            ),
            _column(
                "error",
                pa.string(),
                "Why the review has no words (rank 0); tried again where its text changes, or by --retry-failed.",
            ),
            _required("explained_at", UTC, "Start of the run that computed the row."),
            RUN_ID,
        ]
    ),
)

JOB_RUNS = Table(
    name="job_runs",
    description=(
        "What ran. One row per finished run of a command that changes the root, failed ones included, killed ones not."
    ),
    key=("run_id",),
    schema=pa.schema(
        [
            RUN_ID,
            _required(
                "command",
                pa.string(),
                "ingest, train, retrain, promote, retire, thresholds, merge, push, compile, score, explain or report.",
            ),
            _required("status", pa.string(), "succeeded or failed."),
            _required("started_at", UTC, "Start of the run."),
            _required("finished_at", UTC, "End of the run."),
            _required("wall_seconds", pa.float64(), "Seconds between the two."),
            _column("model_version", pa.string(), "The model, where the run had one."),
            _column("rows_read", pa.int64(), "Rows looked at."),
            _column("rows_written", pa.int64(), "Rows new or changed."),
            _column("rows_failed", pa.int64(), "Rows rejected or with an error."),
            _required("details", pa.string(), "JSON object with the run's own figures."),
            _column("error", pa.string(), "Why it failed."),
        ]
    ),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        REVIEWS,
        REJECTED_REVIEWS,
        SOURCES,
        SPLITS,
        MODELS,
        MODEL_THRESHOLDS,
        MODEL_ROUTES,
        REVIEW_SCORES,
        TOKEN_ATTRIBUTIONS,
        JOB_RUNS,
    )
}
