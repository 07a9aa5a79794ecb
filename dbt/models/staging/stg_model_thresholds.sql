with source as (

    select * from {{ source('lake', 'model_thresholds') }}

),

renamed as (

    select
        model_version,
        threshold_name,
        threshold,
        is_default,
        is_active,
        precision as test_precision,
        recall as test_recall,
        f1 as test_f1,
        flagged_share as test_flagged_share
    from source

)

select * from renamed
