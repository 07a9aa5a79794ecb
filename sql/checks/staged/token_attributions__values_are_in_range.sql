-- A row is an attribution with an impossible place, number or month.
select
    model_version,
    review_id,
    attribution_rank,
    review_month,
    word,
    field,
    char_start,
    char_end,
    attribution,
    convergence_delta,
    nodes
from token_attributions
where
    attribution_rank < 1
    or word = ''
    or field not in ('headline', 'body')
    or char_start < 0
    or char_end <= char_start
    or not isfinite(attribution)
    or not isfinite(convergence_delta)
    or nodes < 1
    or review_month <> date_trunc('month', review_month)
