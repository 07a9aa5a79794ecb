-- A row is an explained review that its model never scored.
select
    token_attributions.model_version,
    token_attributions.review_id,
    count(*) as word_count
from token_attributions
left join review_scores
    on
        token_attributions.model_version = review_scores.model_version
        and token_attributions.review_id = review_scores.review_id
where review_scores.review_id is null
group by
    token_attributions.model_version,
    token_attributions.review_id
