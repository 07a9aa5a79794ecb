{#
    One limit of the Wilson score interval of a proportion at 95%, a double from 0 to 1; null without trials.
    Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22, 209-212;
    with n trials, p = successes / n and z the 97.5% point of the normal distribution:
    (p + z^2/2n -+ z * sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n).
    Rounding must carry no limit out of 0 to 1, and none across p: without successes the lower one may come out as
    1e-18.
#}
{% macro wilson_limit(successes, trials, side) -%}
    {%- set z = 1.959963984540054 -%}
    {%- set n = "nullif(cast(" ~ trials ~ " as double), 0)" -%}
    {%- set p = "(" ~ successes ~ " / " ~ n ~ ")" -%}
    {%- set centre = p ~ " + " ~ (z * z / 2) ~ " / " ~ n -%}
    {%- set variance = p ~ " * (1 - " ~ p ~ ") / " ~ n ~ " + " ~ (z * z / 4) ~ " / (" ~ n ~ " * " ~ n ~ ")" -%}
    {%- set margin = z ~ " * sqrt(" ~ variance ~ ")" -%}
    {%- set scale = "(1 + " ~ (z * z) ~ " / " ~ n ~ ")" -%}
    {%- if side == "lower" -%}
        case when {{ trials }} > 0 then greatest(0.0, least({{ p }}, ({{ centre }} - {{ margin }}) / {{ scale }})) end
    {%- else -%}
        case when {{ trials }} > 0 then least(1.0, greatest({{ p }}, ({{ centre }} + {{ margin }}) / {{ scale }})) end
    {%- endif -%}
{%- endmacro %}
