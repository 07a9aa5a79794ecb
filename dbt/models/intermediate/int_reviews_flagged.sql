with scores as (

    select * from {{ ref('stg_review_scores') }}

),

routed as (

    select * from {{ ref('int_reviews_routed') }}

),

thresholds as (

    select * from {{ ref('stg_model_thresholds') }}

),

default_threshold as (

    select
        model_version,
        threshold_name,
        threshold
    from thresholds
    where is_default

),

-- The one place where a score becomes a decision. Without a probability there is none: null, not false. The text's
-- hash keeps out scores of a text that has been corrected since.
flagged as (

    select
        scores.review_id,
        scores.model_version,
        scores.text_hash,
        scores.logit,
        scores.probability,
        default_threshold.threshold_name,
        default_threshold.threshold,
        scores.probability >= default_threshold.threshold as is_flagged,
        scores.token_count,
        scores.is_truncated,
        scores.has_rating_phrase,
        scores.error,
        scores.scored_at
    from scores
    inner join routed
        on
            scores.review_id = routed.review_id
            and scores.text_hash = routed.text_hash
            and scores.model_version = routed.model_version
    inner join default_threshold
        on scores.model_version = default_threshold.model_version

)

select * from flagged
