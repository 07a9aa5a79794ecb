-- A row is a number of trials whose interval, without or with only successes, leaves the observed share outside by
-- rounding.
with counted as (

    select unnest(range(1, 2001)) as trials

),

extremes as (

    select
        trials,
        0 as successes
    from counted
    union all
    select
        trials,
        trials as successes
    from counted

),

computed as (

    select
        *,
        successes / trials as observed,
        {{ wilson_limit('successes', 'trials', 'lower') }} as lower_limit,
        {{ wilson_limit('successes', 'trials', 'upper') }} as upper_limit
    from extremes

),

crossed as (

    select * from computed
    where lower_limit > observed or upper_limit < observed

)

select * from crossed
