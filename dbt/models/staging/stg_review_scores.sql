with source as (

    select * from {{ source('lake', 'review_scores') }}

),

renamed as (

    select
        model_version,
        review_id,
        review_month,
        text_hash,
        logit,
        probability,
        token_count,
        is_truncated,
        has_rating_phrase,
        error,
        scored_at
    from source

)

select * from renamed
