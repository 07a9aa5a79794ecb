-- What do customers complain of at the worst products?
-- A row is a product and a word, the five words of greatest weight for each of the ten worst products. review_count is
-- the number of its flagged reviews in which the word pushed towards dissatisfied. Function words, negations and words
-- that state the rating are left out.
-- Run it: reviewrisk sql --conf CONFIG --file sql/adhoc/06_words_of_the_worst_products.sql
with words as (
    select
        scores.product_id,
        attributions.word_key as word,
        count(distinct attributions.review_id) as review_count,
        sum(attributions.attribution) as total_attribution
    from fct_token_attributions as attributions
    inner join fct_review_scores as scores
        on attributions.review_id = scores.review_id
    where
        scores.is_flagged
        and attributions.attribution > 0
        and coalesce(attributions.word_kind, 'content') = 'content'
        and regexp_matches(attributions.word_key, '\p{L}')
    group by
        scores.product_id,
        attributions.word_key
),

ranked as (
    select
        product_id,
        word,
        review_count,
        total_attribution,
        row_number() over (
            partition by product_id
            order by total_attribution desc, word asc
        ) as word_rank
    from words
)

select
    products.dissatisfaction_rank,
    products.product_id,
    products.product_title,
    ranked.word_rank,
    ranked.word,
    ranked.review_count
from rpt_dissatisfaction_by_product as products
inner join ranked
    on products.product_id = ranked.product_id
where
    products.dissatisfaction_rank <= 10
    and ranked.word_rank <= 5
order by
    products.dissatisfaction_rank asc,
    ranked.word_rank asc
