-- A row is a Wilson limit that differs from the one printed, to four digits, in Newcombe (1998), Statistics in
-- Medicine 17, 857-872, table I, method 3.
with published as (

    select examples.*
    from (
        values
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718)
    ) as examples (successes, trials, lower_limit, upper_limit)

),

computed as (

    select
        *,
        {{ wilson_limit('successes', 'trials', 'lower') }} as computed_lower,
        {{ wilson_limit('successes', 'trials', 'upper') }} as computed_upper
    from published

),

different as (

    select *
    from computed
    where
        abs(computed_lower - lower_limit) > 0.00005
        or abs(computed_upper - upper_limit) > 0.00005

)

select * from different
