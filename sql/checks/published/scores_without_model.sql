-- A row is a model_version that has scores and no row in models.
select
    review_scores.model_version,
    count(*) as score_count
from review_scores
left join models
    on review_scores.model_version = models.model_version
where models.model_version is null
group by review_scores.model_version
