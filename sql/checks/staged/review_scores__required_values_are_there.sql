-- A row lacks a value in a column that may not be null.
select
    model_version,
    review_id
from review_scores
where
    model_version is null
    or review_id is null
    or review_month is null
    or text_hash is null
    or engine is null
    or precision is null
    or scored_at is null
    or run_id is null
