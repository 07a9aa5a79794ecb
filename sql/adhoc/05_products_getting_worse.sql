-- Which products get worse?
-- A row is a product with at least five labelled reviews in the newest three months and before them, the greatest rise
-- first. Both rates are by the stars; rise_by_score is the same difference as the champion predicts it, and should
-- point the same way.
-- Run it: reviewrisk sql --conf CONFIG --file sql/adhoc/05_products_getting_worse.sql
with newest as (
    select max(review_month) as newest_month
    from fct_review_scores
),

halves as (
    select
        scores.product_id,
        scores.is_dissatisfied,
        scores.probability,
        scores.review_month >= newest.newest_month - interval '2' month as is_recent
    from fct_review_scores as scores
    cross join newest
    where
        scores.is_dissatisfied is not null
        and scores.product_id is not null
),

rates as (
    select
        product_id,
        count(*) filter (where is_recent) as recent_count,
        count(*) filter (where not is_recent) as earlier_count,
        avg(cast(is_dissatisfied as integer)) filter (where is_recent) as recent_rate,
        avg(cast(is_dissatisfied as integer)) filter (where not is_recent) as earlier_rate,
        avg(probability) filter (where is_recent) - avg(probability) filter (where not is_recent) as rise_by_score
    from halves
    group by product_id
)

select
    products.product_id,
    products.product_title,
    rates.earlier_count,
    rates.recent_count,
    rates.earlier_rate,
    rates.recent_rate,
    rates.recent_rate - rates.earlier_rate as rise,
    rates.rise_by_score
from rates
inner join dim_products as products
    on rates.product_id = products.product_id
where
    rates.recent_count >= 5
    and rates.earlier_count >= 5
order by
    rise desc,
    products.product_id asc
limit 20
