-- A row is a review whose date lies outside the days of its split, or whose split has no row in splits.
select
    reviews.review_id,
    reviews.review_date,
    reviews.split,
    splits.first_date,
    splits.last_date
from reviews
left join splits
    on reviews.split = splits.split
where
    splits.split is null
    or reviews.review_date < splits.first_date
    or reviews.review_date > splits.last_date
