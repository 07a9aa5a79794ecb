-- A row is a review that lies in the partition of another month than that of its date.
select
    review_id,
    review_date,
    review_month
from reviews
where review_month <> date_trunc('month', review_date)
