#!/bin/sh
# Tracked runs from the shell: a search and two queries of a file, each kept with its inputs, plan and result, then found again,
# compared and forgotten.
#
#     sh examples/tracked_runs.sh [path of the program vexact]
set -eu
vexact=${1:-vexact}
cd "$(dirname "$0")"
VEXACT_HOME=$(mktemp -d)
export VEXACT_HOME
trap 'rm -rf "$VEXACT_HOME"' EXIT

entries=data/wordnet-sample-4k-minilm-384.parquet

# 1. A query, tracked under a name and a tag. For people here; without --format it answers one line of JSON.
"$vexact" run start --run-name domains --tag demo --format table -- \
    file-sql --input-path $entries --query "
        SELECT domain, count(*) AS entries, avg(length(gloss)) AS letters
        FROM input_table GROUP BY domain ORDER BY entries DESC, domain LIMIT 5"

# 2. The same with another LIMIT, into a file of our own.
"$vexact" run start --run-name "domains, more" --tag demo -- \
    file-sql --input-path $entries --output-path "$VEXACT_HOME/domains.csv" --query "
        SELECT domain, count(*) AS entries, avg(length(gloss)) AS letters
        FROM input_table GROUP BY domain ORDER BY entries DESC, domain LIMIT 7" > "$VEXACT_HOME/answer.json"

# 3. A run that cannot succeed is kept too, with its reason.
"$vexact" run start --tag demo -- file-sql --input-path $entries --query "SELECT nothing FROM input_table" && exit 1

# 4. What there is, newest first, and what the two have in common.
"$vexact" run list --tag demo --format table
ids=$("$vexact" run list --status succeeded | grep -o '"run_id":"[^"]*"' | cut -d '"' -f 4)
second=$(echo "$ids" | sed -n 1p)
first=$(echo "$ids" | sed -n 2p)
"$vexact" run diff --run-id "$first" --other-run-id "$second" --format table

# 5. The rows are in files; the index shows the first ones.
"$vexact" artifacts preview --artifact-id "$second.result" --limit 3 --format table
"$vexact" run result --run-id "$first"
head -3 "$VEXACT_HOME/domains.csv"

# 6. Keep the newest run and nothing else.
"$vexact" run cleanup --keep-last 1 --delete-files --format table
