-- A row is a key (model_version, review_id, attribution_rank) that more than one row of token_attributions has.
select
    model_version,
    review_id,
    attribution_rank,
    count(*) as row_count
from token_attributions
group by
    model_version,
    review_id,
    attribution_rank
having count(*) > 1
