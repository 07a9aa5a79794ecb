-- Which faults do the source files have?
-- A row is a source and a reason. rejected_share is of all lines read: a share that jumps from one file to the next
-- tells of a changed export, and example_line is where to look first.
-- Run it: reviewrisk sql --conf CONFIG --file sql/adhoc/01_faults_of_the_sources.sql
select
    sources.source_file,
    rejected_reviews.reason,
    count(*) as rejected_count,
    count(*) / sources.rows_read as rejected_share,
    min(rejected_reviews.source_line) as example_line
from rejected_reviews
inner join sources
    on rejected_reviews.source_checksum = sources.source_checksum
group by
    sources.source_file,
    sources.rows_read,
    rejected_reviews.reason
order by
    rejected_share desc,
    sources.source_file asc
