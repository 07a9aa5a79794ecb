with attributions as (

    select * from {{ ref('stg_token_attributions') }}

),

scores as (

    select * from {{ ref('fct_review_scores') }}

),

-- The text's hash keeps out words of a text that has been corrected since.
joined as (

    select
        attributions.review_id,
        attributions.attribution_rank,
        attributions.model_version,
        scores.review_month,
        scores.category_key,
        scores.is_flagged,
        attributions.word,
        attributions.word_key,
        attributions.field,
        attributions.char_start,
        attributions.char_end,
        attributions.attribution,
        attributions.word_kind,
        attributions.phrase,
        attributions.is_converged,
        attributions.explained_at
    from attributions
    inner join scores
        on
            attributions.model_version = scores.model_version
            and attributions.review_id = scores.review_id
            and attributions.text_hash = scores.text_hash

)

select * from joined
