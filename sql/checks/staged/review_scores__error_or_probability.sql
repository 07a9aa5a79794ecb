-- A row is a score that has both an error and a probability, or neither, or a part of the three numbers only.
select
    model_version,
    review_id,
    logit,
    raw_probability,
    probability,
    error
from review_scores
where
    (error is null) <> (probability is not null)
    or (error is null) <> (raw_probability is not null)
    or (error is null) <> (logit is not null)
