{# A text in lower case, its words between single spaces and one space at either end: in it, ' fell apart ' is found. #}
{%- macro spaced(text) -%}
    ' ' || trim(regexp_replace(lower({{ text }}), '[^\p{L}\p{N}'']+', ' ', 'g')) || ' '
{%- endmacro -%}
