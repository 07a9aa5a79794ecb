-- A row is a key (model_version, review_id) that more than one row of review_scores has.
select
    model_version,
    review_id,
    count(*) as row_count
from review_scores
group by
    model_version,
    review_id
having count(*) > 1
