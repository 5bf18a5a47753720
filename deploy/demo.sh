#!/usr/bin/env bash
# The README's tutorial, run: a hospital and an analyst, two processes, one boundary. Usage: demo.sh FOLDER
set -euo pipefail
rm -rf "${1:?folder for the demo}" && mkdir -p "$1" && cd "$1"
SECONDS=0
step() { printf '\n$'; printf ' %q' "$@"; echo; "$@"; }  # as it can be pasted

step fair4free-owner init hospital --dataset support2 --sensitive race --target hospdead
step fair4free-owner train hospital
step fair4free-owner gate hospital
step fair4free-owner approve hospital --by "Dr. Ada Quinn"
printf '\n$ %s\n' "fair4free-owner serve hospital &"
fair4free-owner serve hospital --address "127.0.0.1:${PORT:-50443}" --enrolment-address "127.0.0.1:${ENROLMENT_PORT:-50444}" &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
until [ -s hospital/invitation.json ]; do kill -0 $server; sleep 0.2; done

step fair4free enrol study --invitation hospital/invitation.json
step fair4free-owner enrol hospital --approve "$(cat study/identity/fingerprint)" --by "Dr. Ada Quinn"
step fair4free enrol study
step fair4free fetch study
step fair4free distill study
# balanced: rows that models are to be trained on
step fair4free generate study --rows 20000 --balanced
step fair4free audit study
step fair4free verify study

kill $server && wait $server
trap - EXIT
printf '\nDone in %s s. Open these:\n  %s\n  %s\n' "$SECONDS" "$PWD/study/audit.html" "$PWD/hospital/report.html"
