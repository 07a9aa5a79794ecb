with source as (

    select * from {{ source('lake', 'reviews') }}

),

renamed as (

    select
        review_id,
        product_id,
        product_parent,
        product_title,
        product_category,
        coalesce(nullif(lower(trim(product_category)), ''), 'unknown') as category_key,
        customer_id,
        marketplace,
        coalesce(nullif(lower(trim(marketplace)), ''), 'unknown') as marketplace_key,
        star_rating,
        case
            when star_rating <= 2 then true
            when star_rating >= 4 then false
        end as is_dissatisfied,
        review_date,
        review_month,
        split,
        verified_purchase,
        review_headline,
        review_body,
        text_hash,
        source_order,
        source_line,
        ingested_at
    from source

)

select * from renamed
