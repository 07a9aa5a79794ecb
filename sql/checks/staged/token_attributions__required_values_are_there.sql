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
    or word is null
    or field is null
    or char_start is null
    or char_end is null
    or attribution is null
    or method is null
    or nodes is null
    or convergence_delta is null
    or is_converged is null
    or explained_at is null
    or run_id is null
