{# A part of a whole as a double from 0 to 1; null where the whole is 0. #}
{% macro share(part, whole) -%}
    cast({{ part }} as double) / nullif({{ whole }}, 0)
{%- endmacro %}
