-- A row is a score of a review that is not there.
select
    review_scores.model_version,
    review_scores.review_id
from review_scores
left join reviews
    on review_scores.review_id = reviews.review_id
where reviews.review_id is null
