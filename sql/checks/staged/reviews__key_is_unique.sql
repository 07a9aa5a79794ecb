-- A row is a key (review_id) that more than one row of reviews has.
select
    review_id,
    count(*) as row_count
from reviews
group by review_id
having count(*) > 1
