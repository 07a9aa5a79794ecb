with source as (

    select * from {{ source('lake', 'models') }}

),

renamed as (

    select
        model_version,
        status,
        status = 'champion' as is_champion,
        trained_at,
        promoted_at,
        score_since,
        backbone,
        backbone_revision,
        lora_rank,
        calibration,
        data_version,
        train_rows,
        validation_rows,
        test_rows,
        row_filter,
        test_auc,
        test_average_precision,
        test_f1,
        test_ece,
        test_brier,
        test_log_loss,
        baseline_auc,
        baseline_f1,
        test_f1_low,
        test_f1_high,
        f1_gain,
        f1_gain_low,
        f1_gain_high,
        beats_baseline,
        test_f1_ratings_masked,
        test_ece_debiased
    from source

)

select * from renamed
