with scores as (

    select * from {{ ref('stg_review_scores') }}

),

models as (

    select * from {{ ref('stg_models') }}

),

thresholds as (

    select * from {{ ref('stg_model_thresholds') }}

),

champion as (

    select model_version
    from models
    where is_champion

),

default_threshold as (

    select
        thresholds.model_version,
        thresholds.threshold_name,
        thresholds.threshold
    from thresholds
    inner join champion
        on thresholds.model_version = champion.model_version
    where thresholds.is_default

),

-- The one place where a score becomes a decision. Without a probability there is none: null, not false.
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
    inner join default_threshold
        on scores.model_version = default_threshold.model_version

)

select * from flagged
