-- Do the champion's probabilities still hold?
-- A row is a split. The expected calibration error is the mean distance between what was said and what came, over ten
-- bins. If live is far above test, customers or products have changed; largest_gap says how bad the worst bin of at
-- least 30 reviews is. Where the champion was made by `retrain`, live holds reviews that it was trained on, and looks
-- better than it is: only test is unseen then.
-- Run it: reviewrisk sql --conf CONFIG --file sql/adhoc/07_calibration_error_by_split.sql
select
    split,
    sum(labelled_scored_count) as labelled_scored_count,
    sum(labelled_scored_count * abs(gap)) / sum(labelled_scored_count) as expected_calibration_error,
    max(abs(gap)) filter (where labelled_scored_count >= 30) as largest_gap
from rpt_calibration
group by split
order by split
