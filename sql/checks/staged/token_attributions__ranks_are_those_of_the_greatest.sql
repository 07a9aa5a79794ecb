-- A row is a word whose rank is not its place by absolute attribution within its review.
with ranked as (
    select
        model_version,
        review_id,
        attribution_rank,
        attribution,
        rank() over (partition by model_version, review_id order by abs(attribution) desc) as first_place,
        count(*) over (partition by model_version, review_id order by abs(attribution) desc) as last_place
    from token_attributions
)

select *
from ranked
where attribution_rank not between first_place and last_place
