-- What would change with another model?
-- A row is a model beside the champion, each at its own default threshold, over the labelled reviews of test and live
-- that both have scored. gained are dissatisfied customers only the other model finds, lost those only the champion
-- finds; the alarms are the same for satisfied ones.
-- Run it: reviewrisk sql --conf CONFIG --file sql/adhoc/08_where_two_models_disagree.sql
with decisions as (
    select
        scores.model_version,
        scores.review_id,
        models.status = 'champion' as is_champion,
        scores.probability >= thresholds.threshold as is_flagged
    from review_scores as scores
    inner join models
        on scores.model_version = models.model_version
    inner join model_thresholds as thresholds
        on
            scores.model_version = thresholds.model_version
            and thresholds.is_default
    where scores.probability is not null
)

select
    rivals.model_version as other_model,
    count(*) as review_count,
    count(*) filter (where rivals.is_flagged and not champion.is_flagged and reviews.star_rating <= 2) as gained,
    count(*) filter (where not rivals.is_flagged and champion.is_flagged and reviews.star_rating <= 2) as lost,
    count(*) filter (where rivals.is_flagged and not champion.is_flagged and reviews.star_rating >= 4) as new_alarms,
    count(*) filter (where not rivals.is_flagged and champion.is_flagged and reviews.star_rating >= 4) as spared_alarms
from decisions as champion
inner join decisions as rivals
    on
        champion.review_id = rivals.review_id
        and not rivals.is_champion
inner join reviews
    on champion.review_id = reviews.review_id
where
    champion.is_champion
    and reviews.star_rating <> 3
    and reviews.split in ('test', 'live')
group by rivals.model_version
order by rivals.model_version
