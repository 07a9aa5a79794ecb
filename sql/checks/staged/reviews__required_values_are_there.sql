-- A row lacks a value in a column that may not be null.
select review_id
from reviews
where
    review_id is null
    or star_rating is null
    or review_date is null
    or split is null
    or review_month is null
    or text_hash is null
    or source_checksum is null
    or source_order is null
    or source_line is null
    or ingested_at is null
    or run_id is null
