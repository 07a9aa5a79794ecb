-- A row is a source whose count of rejected lines is not the number of its rows in rejected_reviews.
select
    sources.source_checksum,
    sources.source_file,
    sources.rows_rejected,
    count(rejected_reviews.source_line) as kept_count
from sources
left join rejected_reviews
    on sources.source_checksum = rejected_reviews.source_checksum
group by
    sources.source_checksum,
    sources.source_file,
    sources.rows_rejected
having sources.rows_rejected <> count(rejected_reviews.source_line)
