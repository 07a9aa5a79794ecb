-- A row is a key (source_checksum, source_line) that more than one row of rejected_reviews has.
select
    source_checksum,
    source_line,
    count(*) as row_count
from rejected_reviews
group by
    source_checksum,
    source_line
having count(*) > 1
