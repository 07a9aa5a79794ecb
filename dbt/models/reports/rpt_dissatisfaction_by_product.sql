with reviews as (

    select * from {{ ref('stg_reviews') }}

),

scores as (

    select * from {{ ref('fct_review_scores') }}

),

products as (

    select * from {{ ref('dim_products') }}

),

joined as (

    select
        reviews.product_id,
        reviews.is_dissatisfied,
        scores.probability,
        scores.is_flagged
    from reviews
    left join scores
        on reviews.review_id = scores.review_id
    where reviews.product_id is not null

),

counted as (

    select
        product_id,
        count(*) as review_count,
        count(is_dissatisfied) as labelled_count,
        count(*) filter (where is_dissatisfied) as dissatisfied_count,
        count(probability) filter (where is_dissatisfied is not null) as labelled_scored_count,
        count(*) filter (where is_flagged and is_dissatisfied is not null) as labelled_flagged_count,
        avg(probability) filter (where is_dissatisfied is not null) as predicted_rate
    from joined
    group by product_id

),

limits as (

    select
        *,
        {{ share('dissatisfied_count', 'labelled_count') }} as dissatisfied_rate,
        {{ wilson_limit('dissatisfied_count', 'labelled_count', 'lower') }} as dissatisfied_rate_lower,
        {{ wilson_limit('dissatisfied_count', 'labelled_count', 'upper') }} as dissatisfied_rate_upper,
        {{ share('labelled_flagged_count', 'labelled_scored_count') }} as flagged_rate
    from counted
    where labelled_count >= {{ var('minimum_reviews') }}

),

ranked as (

    select
        row_number() over (
            order by
                limits.dissatisfied_rate_lower desc,
                limits.labelled_count desc,
                limits.product_id asc
        ) as dissatisfaction_rank,
        limits.product_id,
        products.product_title,
        products.category_key,
        limits.review_count,
        limits.labelled_count,
        limits.dissatisfied_count,
        limits.dissatisfied_rate,
        limits.dissatisfied_rate_lower,
        limits.dissatisfied_rate_upper,
        limits.labelled_scored_count,
        limits.predicted_rate,
        limits.flagged_rate
    from limits
    inner join products
        on limits.product_id = products.product_id

)

select * from ranked
