-- What would each threshold of the models that decide mean for the people who answer flagged reviews?
-- A row is a model, one of its thresholds and a month; without routes the champion is the only model. flagged_count is
-- the work, 3-star reviews included. Precision and recall are over labelled reviews: which share of the flagged is
-- truly dissatisfied, and which share of the dissatisfied is reached.
-- Run it: reviewrisk sql --conf CONFIG --file sql/adhoc/04_workload_at_each_threshold.sql
select
    scores.model_version,
    scores.review_month,
    thresholds.threshold_name,
    thresholds.threshold,
    thresholds.is_default,
    count(*) filter (where scores.probability >= thresholds.threshold) as flagged_count,
    count(*) filter (where scores.probability >= thresholds.threshold and scores.is_dissatisfied)
    / nullif(count(scores.is_dissatisfied) filter (where scores.probability >= thresholds.threshold), 0)
        as precision_at_threshold,
    count(*) filter (where scores.probability >= thresholds.threshold and scores.is_dissatisfied)
    / nullif(count(*) filter (where scores.is_dissatisfied), 0) as recall_at_threshold
from fct_review_scores as scores
inner join model_thresholds as thresholds
    on scores.model_version = thresholds.model_version
where
    scores.split in ('test', 'live')
    and scores.probability is not null
group by
    scores.model_version,
    scores.review_month,
    thresholds.threshold_name,
    thresholds.threshold,
    thresholds.is_default
order by
    scores.model_version asc,
    scores.review_month asc,
    thresholds.threshold asc
