with reviews as (

    select * from {{ ref('stg_reviews') }}

),

models as (

    select * from {{ ref('stg_models') }}

),

routes as (

    select * from {{ ref('stg_model_routes') }}

),

category_routes as (

    select
        route_value,
        model_version
    from routes
    where route_column = 'product_category'

),

marketplace_routes as (

    select
        route_value,
        model_version
    from routes
    where route_column = 'marketplace'

),

champion as (

    select model_version
    from models
    where is_champion

),

-- All routes go by one column, so a review meets one of them at most.
routed as (

    select
        reviews.review_id,
        reviews.text_hash,
        coalesce(
            category_routes.model_version,
            marketplace_routes.model_version,
            champion.model_version
        ) as model_version
    from reviews
    cross join champion
    left join category_routes
        on reviews.category_key = category_routes.route_value
    left join marketplace_routes
        on reviews.marketplace_key = marketplace_routes.route_value

)

select * from routed
