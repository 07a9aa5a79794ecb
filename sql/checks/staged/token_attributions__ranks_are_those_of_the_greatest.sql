-- A row is a word whose rank is not its place by absolute attribution within its review. The rank 0 of a review
-- without words stands alone.
with ranked as (
    select
        model_version,
        review_id,
        attribution_rank,
        attribution,
        rank() over (partition by model_version, review_id order by abs(attribution) desc nulls last) as first_place,
        count(*) over (partition by model_version, review_id order by abs(attribution) desc nulls last) as last_place,
        count(*) over (partition by model_version, review_id) as row_count
    from token_attributions
)

select *
from ranked
where
    (attribution_rank = 0 and row_count > 1)
    or (attribution_rank <> 0 and attribution_rank not between first_place and last_place)
