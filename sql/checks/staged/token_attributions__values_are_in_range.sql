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
    word_kind,
    phrase,
    convergence_delta,
    nodes,
    error
from token_attributions
where
    (attribution_rank = 0) <> (error is not null)
    or (attribution_rank = 0) <> (word is null)
    or (attribution_rank = 0) <> (field is null)
    or (attribution_rank = 0) <> (char_start is null)
    or (attribution_rank = 0) <> (char_end is null)
    or (attribution_rank = 0) <> (attribution is null)
    or (error is null and (nodes is null or convergence_delta is null))
    or word = ''
    or word_kind not in ('rating', 'negation', 'function', 'content')
    or phrase = ''
    or field not in ('headline', 'body')
    or char_start < 0
    or char_end <= char_start
    or not isfinite(attribution)
    or not isfinite(convergence_delta)
    or nodes < 1
    or review_month <> date_trunc('month', review_month)
