with source as (

    select * from {{ source('lake', 'model_routes') }}

),

renamed as (

    select
        route_value,
        route_column,
        model_version,
        set_at
    from source

)

select * from renamed
