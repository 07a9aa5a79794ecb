with flagged as (

    select * from {{ ref('int_reviews_flagged') }}

),

reviews as (

    select * from {{ ref('stg_reviews') }}

),

joined as (

    select
        flagged.review_id,
        flagged.model_version,
        reviews.split,
        reviews.review_date,
        reviews.review_month,
        reviews.product_id,
        reviews.category_key,
        reviews.star_rating,
        reviews.is_dissatisfied,
        flagged.text_hash,
        flagged.logit,
        flagged.probability,
        flagged.threshold_name,
        flagged.threshold,
        flagged.is_flagged,
        flagged.token_count,
        flagged.is_truncated,
        flagged.has_rating_phrase,
        flagged.error,
        flagged.scored_at
    from flagged
    inner join reviews
        on flagged.review_id = reviews.review_id

)

select * from joined
