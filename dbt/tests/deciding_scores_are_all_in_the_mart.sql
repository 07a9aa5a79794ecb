-- A row is a score of the present text by the model that decides for its review, and fct_review_scores lacks it: the
-- model's default threshold is missing.
with scores as (

    select * from {{ ref('stg_review_scores') }}

),

routed as (

    select * from {{ ref('int_reviews_routed') }}

),

facts as (

    select * from {{ ref('fct_review_scores') }}

),

lost as (

    select
        scores.model_version,
        scores.review_id
    from scores
    inner join routed
        on
            scores.model_version = routed.model_version
            and scores.review_id = routed.review_id
            and scores.text_hash = routed.text_hash
    left join facts
        on
            scores.model_version = facts.model_version
            and scores.review_id = facts.review_id
    where facts.review_id is null

)

select * from lost
