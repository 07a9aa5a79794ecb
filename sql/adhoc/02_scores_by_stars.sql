-- How do the champion's probabilities follow the stars, and where do 3-star reviews stand?
-- A row is a star rating on the test split, which the champion never saw. mean_probability should fall from 1 star to
-- 5. Of 3 stars it says to which side such reviews lean; they have no label, so neither side is wrong.
-- Run it: reviewrisk sql --conf CONFIG --file sql/adhoc/02_scores_by_stars.sql
select
    star_rating,
    count(*) as review_count,
    avg(probability) as mean_probability,
    quantile_cont(probability, 0.1) as lowest_tenth,
    quantile_cont(probability, 0.9) as highest_tenth,
    count(*) filter (where is_flagged) / count(probability) as flagged_rate
from fct_review_scores
where
    split = 'test'
    and probability is not null
group by star_rating
order by star_rating
