-- A row is a review whose stars, split, votes or place in its source are impossible.
select
    review_id,
    star_rating,
    split,
    helpful_votes,
    total_votes,
    source_order,
    source_line
from reviews
where
    star_rating not between 1 and 5
    or split not in ('train', 'validation', 'test', 'live')
    or helpful_votes < 0
    or total_votes < 0
    or source_order < 1
    or source_line < 2
    or review_id = ''
    or text_hash = ''
