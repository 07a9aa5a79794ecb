-- Where is the champion surest and wrong?
-- A row is a labelled review it never saw, the worst mistakes first. Read the texts: some are slips of the customer's
-- thumb (praise with one star), the rest shows what the model does not understand yet.
-- Run it: reviewrisk sql --conf CONFIG --file sql/adhoc/03_surest_mistakes.sql
select
    scores.review_id,
    scores.star_rating,
    scores.probability,
    reviews.review_headline,
    reviews.review_body,
    abs(cast(scores.is_dissatisfied as integer) - scores.probability) as mistake
from fct_review_scores as scores
inner join reviews
    on scores.review_id = reviews.review_id
where
    scores.split in ('test', 'live')
    and scores.is_flagged <> scores.is_dissatisfied
order by
    mistake desc,
    scores.review_id asc
limit 20
