-- A row is a source with an impossible size, place or range of dates.
select
    source_checksum,
    source_bytes,
    source_order,
    first_review_date,
    last_review_date
from sources
where
    source_bytes < 0
    or source_order < 1
    or first_review_date > last_review_date
