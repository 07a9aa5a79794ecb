with source as (

    select * from {{ source('lake', 'token_attributions') }}

),

renamed as (

    select
        model_version,
        review_id,
        review_month,
        text_hash,
        attribution_rank,
        word,
        lower(word) as word_key,
        field,
        char_start,
        char_end,
        attribution,
        word_kind,
        phrase,
        is_converged,
        explained_at
    from source
    where error is null

)

select * from renamed
