#!/usr/bin/env bash
# The pages under docs/results/ from two raw files: make results SOURCE=reviews.tsv.gz SHIFTED=other_reviews.tsv.gz
#
# Every step that is done leaves a mark in a folder of build/results that is named after the files' contents, and
# comparison and ablation keep every cell: stopped and started again, it goes on where it was; with another
# conf/local.yml, minimal pairs or script, all steps but ingest run anew. The boundaries are those of the Amazon US
# reviews up to August 2015. Training samples of the comparison are cut, so that the whole takes 90 minutes on 2 cores
# at most.
set -euo pipefail
if [ $# -ne 2 ]; then
    echo "two raw files, please: $0 reviews.tsv.gz other_reviews.tsv.gz" >&2
    exit 2
fi
source=$(realpath "$1") shifted=$(realpath "$2")
cd "$(dirname "$0")/.."
name=$(cat "$source" "$shifted" | sha256sum | cut -c 1-12)
folder=build/results/$name
pages=docs/results
mkdir -p "$folder" "$pages"
export PATH="$PWD/.venv/bin:$PATH"
export REVIEWRISK_ROOT="$folder/reviews"

# two trainings beside each other, each on half of the cores, use them better than one on all
threads=$(($(nproc) > 1 ? $(nproc) / 2 : 1))
conf=$folder/local.yml
sed "s/^    threads: null /    threads: $threads /" conf/local.yml > "$conf"

recipe=$(cat conf/local.yml benchmarks/results.sh tests/data/minimal_pairs.jsonl | sha256sum | cut -c 1-12)

# step NAME COMMAND…: runs the command, unless it has ended well before with this recipe
step() {
    local name=$1 mark=$folder/$1-$recipe.done
    shift
    case $name in ingest*) mark=$folder/$name.done ;; esac
    if [ -e "$mark" ]; then
        echo "$name: done before, in $(cat "$mark") s"
        return
    fi
    echo "$name"
    local started=$SECONDS
    "$@"
    echo $((SECONDS - started)) > "$mark"
}

newest() {
    reviewrisk sql --conf local --format csv "select model_version from models order by trained_at desc limit 1" |
        tail -n 1
}

compare() {
    reviewrisk compare --conf "$conf" --shifted-root "$folder/shifted" --rows 2000 --test-rows 1500 --parallel 2 \
        --pairs tests/data/minimal_pairs.jsonl --output "$pages/comparison.md"
}

ablate() {
    reviewrisk ablate --conf "$conf" --rank 4 --rank 16 --targets attention --targets all-linear \
        --layers all --layers upper --learning-rate 0.0002 --learning-rate 0.0005 --learning-rate 0.001 \
        --rows 1500 --validation-rows 600 --output "$pages/ablation.md"
}

card() {
    local version
    version=$(newest)
    # without the section that lists review ids
    sed '/^## Errors/,/^## Calibration/{/^## Calibration/!d}' "$REVIEWRISK_ROOT/models/$version/README.md" \
        > "$pages/model-card.md"
    cp "$REVIEWRISK_ROOT/models/$version/"{curves,reliability}.png "$pages/"
}

evaluate() {
    reviewrisk models evaluate --conf "$conf" --rows 4000 --output "$pages/shifted.md" "$(newest)" "$folder/shifted"
}

# what the tools print about the model
tools() {
    local version
    version=$(newest)
    printf '# What `diagnose` and `models merge` say of %s\n\n```\n' "$version" > "$folder/tools.md"
    reviewrisk diagnose --conf "$conf" "$version" | sed '/: working, /d; s/ *$//' >> "$folder/tools.md"
    printf '```\n\n```\n' >> "$folder/tools.md"
    reviewrisk models merge --conf "$conf" "$version" | sed '/: working, /d; s/ *$//' >> "$folder/tools.md"
    printf '```\n' >> "$folder/tools.md"
    mv "$folder/tools.md" "$pages/tools.md"
}

step ingest reviewrisk ingest --conf local --train-end 2014-12-31 --validation-end 2015-04-30 \
    --test-end 2015-08-31 "$source"
step ingest-shifted env REVIEWRISK_ROOT="$folder/shifted" reviewrisk ingest --conf local "$shifted"
step ablate ablate &
beside=$!
trap '{ pkill -P "$beside" && wait "$beside"; } || true' EXIT  # should the training fail or be stopped
step train reviewrisk train --conf "$conf"
step card card
wait "$beside"
trap - EXIT
step compare compare
step evaluate evaluate
step tools tools
for mark in "$folder"/ingest*.done "$folder"/*-"$recipe".done; do
    echo "$(basename "$mark" .done): $(cat "$mark") s"
done
