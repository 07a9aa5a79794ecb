with scores as (

    select * from {{ ref('fct_review_scores') }}

),

-- Bins are [0, 0.1), [0.1, 0.2) … and [0.9, 1]: a probability of 1 belongs to the last.
binned as (

    select
        split,
        probability,
        is_dissatisfied,
        least(cast(floor(probability * 10) as integer), 9) + 1 as probability_bin
    from scores
    where
        is_dissatisfied is not null
        and probability is not null

),

counted as (

    select
        split,
        probability_bin,
        count(*) as labelled_scored_count,
        count(*) filter (where is_dissatisfied) as dissatisfied_count,
        avg(probability) as mean_probability
    from binned
    group by split, probability_bin

),

rates as (

    select
        split,
        probability_bin,
        cast(probability_bin - 1 as double) / 10 as bin_from,
        cast(probability_bin as double) / 10 as bin_to,
        labelled_scored_count,
        dissatisfied_count,
        mean_probability,
        {{ share('dissatisfied_count', 'labelled_scored_count') }} as dissatisfied_rate
    from counted

),

gaps as (

    select
        *,
        dissatisfied_rate - mean_probability as gap
    from rates

)

select * from gaps
