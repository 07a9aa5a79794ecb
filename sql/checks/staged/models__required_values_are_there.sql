-- A row lacks a value in a column that may not be null.
select model_version
from models
where
    model_version is null
    or status is null
    or trained_at is null
    or backbone is null
    or backbone_revision is null
    or pooling is null
    or max_length is null
    or lora_rank is null
    or lora_alpha is null
    or lora_targets is null
    or trainable_parameters is null
    or total_parameters is null
    or calibration is null
    or data_version is null
    or train_rows is null
    or validation_rows is null
    or test_rows is null
    or test_auc is null
    or test_average_precision is null
    or test_f1 is null
    or test_ece is null
    or test_brier is null
    or test_log_loss is null
    or baseline_auc is null
    or baseline_f1 is null
    or bundle_path is null
    or bundle_checksum is null
    or run_id is null
