-- A row is a threshold, or a figure at it, outside 0 to 1.
select
    model_version,
    threshold_name,
    threshold,
    precision,
    recall,
    f1,
    flagged_share,
    precision_low,
    precision_high,
    recall_low,
    recall_high,
    flagged_share_low,
    flagged_share_high
from model_thresholds
where
    threshold not between 0 and 1
    or precision not between 0 and 1
    or recall not between 0 and 1
    or f1 not between 0 and 1
    or flagged_share not between 0 and 1
    or threshold_name = ''
    or precision_low > precision_high
    or recall_low > recall_high
    or flagged_share_low > flagged_share_high
