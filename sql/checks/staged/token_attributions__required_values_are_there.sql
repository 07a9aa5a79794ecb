-- A row lacks a value in a column that may not be null.
select
    model_version,
    review_id,
    attribution_rank
from token_attributions
where
    model_version is null
    or review_id is null
    or review_month is null
    or text_hash is null
    or attribution_rank is null
    or method is null
    or is_converged is null
    or explained_at is null
    or run_id is null
