#!/bin/sh
# A countdown timer. The arguments come as JSON on standard input; they have passed the schema, so the only
# one is a whole number. The end is kept in a file, and a program `ring` beside this one is run at that time.
set -eu
end_file=${TMPDIR:-/tmp}/voicelived-timer
minutes=$(sed -n 's/.*"minutes":\([0-9][0-9]*\).*/\1/p')
now=$(date +%s)

if [ -n "$minutes" ]; then
  echo $((now + minutes * 60)) >"$end_file"
  # It goes on after this run, so it must hold none of its streams.
  (
    sleep $((minutes * 60))
    if [ -x ./ring ]; then ./ring; else logger -t voicelived-timer "The timer is over."; fi
  ) </dev/null >/dev/null 2>&1 &
  echo "{\"started\":true,\"minutes\":$minutes}"
elif [ ! -s "$end_file" ]; then
  # What a failed run prints is what the model is told.
  echo "No timer was started."
  exit 1
else
  left=$(($(cat "$end_file") - now))
  [ "$left" -gt 0 ] || left=0
  echo "{\"seconds_left\":$left}"
fi
