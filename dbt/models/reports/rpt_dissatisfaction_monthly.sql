with reviews as (

    select * from {{ ref('stg_reviews') }}

),

scores as (

    select * from {{ ref('fct_review_scores') }}

),

joined as (

    select
        reviews.review_month,
        reviews.category_key,
        reviews.is_dissatisfied,
        scores.probability,
        scores.is_flagged
    from reviews
    left join scores
        on reviews.review_id = scores.review_id

),

counted as (

    select
        review_month,
        category_key,
        count(*) as review_count,
        count(is_dissatisfied) as labelled_count,
        count(*) filter (where is_dissatisfied) as dissatisfied_count,
        count(probability) as scored_count,
        count(*) filter (where is_flagged) as flagged_count,
        count(probability) filter (where is_dissatisfied is not null) as labelled_scored_count,
        count(*) filter (where is_flagged and is_dissatisfied is not null) as labelled_flagged_count,
        count(*) filter (where is_flagged and is_dissatisfied) as dissatisfied_flagged_count,
        avg(probability) filter (where is_dissatisfied is not null) as predicted_rate
    from joined
    group by review_month, category_key

),

rates as (

    select
        review_month,
        category_key,
        review_count,
        labelled_count,
        dissatisfied_count,
        scored_count,
        flagged_count,
        labelled_scored_count,
        labelled_flagged_count,
        dissatisfied_flagged_count,
        {{ share('dissatisfied_count', 'labelled_count') }} as dissatisfied_rate,
        predicted_rate,
        {{ share('labelled_flagged_count', 'labelled_scored_count') }} as flagged_rate
    from counted

)

select * from rates
