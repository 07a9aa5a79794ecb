-- A row is a score of the champion that fct_review_scores lacks: its review or its model's default threshold is missing.
with scores as (

    select * from {{ ref('stg_review_scores') }}

),

models as (

    select * from {{ ref('stg_models') }}

),

facts as (

    select * from {{ ref('fct_review_scores') }}

),

lost as (

    select
        scores.model_version,
        scores.review_id
    from scores
    inner join models
        on scores.model_version = models.model_version
    left join facts
        on
            scores.model_version = facts.model_version
            and scores.review_id = facts.review_id
    where
        models.is_champion
        and facts.review_id is null

)

select * from lost
