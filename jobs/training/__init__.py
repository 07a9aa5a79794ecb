"""Commands that fit or judge models. They read through pyarrow: no Spark."""
