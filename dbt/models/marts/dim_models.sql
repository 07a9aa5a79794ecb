with models as (

    select * from {{ ref('stg_models') }}

),

thresholds as (

    select * from {{ ref('stg_model_thresholds') }}

),

default_thresholds as (

    select *
    from thresholds
    where is_default

),

joined as (

    select
        models.model_version,
        models.status,
        models.is_champion,
        models.trained_at,
        models.promoted_at,
        models.score_since,
        models.backbone,
        models.backbone_revision,
        models.lora_rank,
        models.calibration,
        models.data_version,
        models.train_rows,
        models.validation_rows,
        models.test_rows,
        models.row_filter,
        models.test_auc,
        models.test_average_precision,
        models.test_f1,
        models.test_ece,
        models.test_brier,
        models.test_log_loss,
        models.baseline_auc,
        models.baseline_f1,
        models.test_f1_low,
        models.test_f1_high,
        models.f1_gain,
        models.f1_gain_low,
        models.f1_gain_high,
        models.beats_baseline,
        models.test_f1_ratings_masked,
        models.test_ece_debiased,
        default_thresholds.threshold_name as default_threshold_name,
        default_thresholds.threshold as default_threshold,
        default_thresholds.test_precision,
        default_thresholds.test_recall,
        default_thresholds.test_flagged_share
    from models
    left join default_thresholds
        on models.model_version = default_thresholds.model_version

)

select * from joined
