-- A row is a source whose run accepted more reviews, dated as its lines or later, than are stored: rows of reviews
-- were lost.
with accepted as (
    -- the accepted lines of one run are as many reviews; a later version of a review never has an earlier date
    select
        source_checksum,
        source_file,
        first_review_date,
        sum(rows_accepted) over (partition by run_id order by first_review_date desc) as accepted_count
    from sources
    where rows_accepted > 0
),

reviews_by_day as (
    select
        review_date,
        count(*) as review_count
    from reviews
    group by review_date
)

select
    accepted.source_checksum,
    accepted.source_file,
    accepted.first_review_date,
    accepted.accepted_count,
    coalesce(sum(reviews_by_day.review_count), 0) as stored_count
from accepted
left join reviews_by_day
    on accepted.first_review_date <= reviews_by_day.review_date
group by
    accepted.source_checksum,
    accepted.source_file,
    accepted.first_review_date,
    accepted.accepted_count
having coalesce(sum(reviews_by_day.review_count), 0) < accepted.accepted_count
