-- A row is a score whose probability, token count, engine, precision or month is impossible.
select
    model_version,
    review_id,
    review_month,
    raw_probability,
    probability,
    token_count,
    engine,
    precision
from review_scores
where
    raw_probability not between 0 and 1
    or probability not between 0 and 1
    or token_count < 0
    or precision not in ('float32', 'bfloat16', 'float16', 'int8', 'float64')
    or (engine = 'tfidf') <> (precision = 'float64')
    or review_month <> date_trunc('month', review_month)
