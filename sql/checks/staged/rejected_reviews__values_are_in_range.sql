-- A row is a rejected line with an unknown reason, an impossible line number, or in the partition of another source.
select
    source_checksum,
    source_line,
    ingest_id,
    reason
from rejected_reviews
where
    source_line < 1
    or ingest_id <> substr(source_checksum, 1, 16)
    or not (
        reason in ('blank_line', 'not_utf8', 'repeated_header', 'too_few_fields', 'too_many_fields')
        or reason like 'bad!_%' escape '!'
    )
