with reviews as (

    select * from {{ ref('stg_reviews') }}

),

ordered as (

    select
        *,
        row_number() over (
            partition by product_id
            order by review_date desc, source_order desc, source_line desc
        ) as recency
    from reviews
    where product_id is not null

),

counted as (

    select
        product_id,
        min(review_date) as first_review_date,
        max(review_date) as last_review_date,
        count(*) as review_count
    from ordered
    group by product_id

),

latest as (

    select
        ordered.product_id,
        ordered.product_parent,
        ordered.product_title,
        ordered.product_category,
        ordered.category_key,
        counted.first_review_date,
        counted.last_review_date,
        counted.review_count
    from ordered
    inner join counted
        on ordered.product_id = counted.product_id
    where ordered.recency = 1

)

select * from latest
