#!/bin/sh
# What `make demo` runs: data, training, evaluation and report, with the commands that anyone would type.
set -eu
run=${1:-runs/demo}
data=data/tetrominoes.h5

say() { printf '\n== %s\n' "$1"; }

say "1/4 data: 20,000 images with three Tetrominoes each"
[ -f "$data" ] || unscene data generate tetrominoes "$data" --train 20000 --val 96 --test 320

say "2/4 training: IODINE from scratch; watch val/fg_ari rise after a thousand steps"
if [ -f "$run/checkpoints/last.ckpt" ]; then
    unscene train iodine/demo --run "$run" --ckpt_path last
else
    unscene train iodine/demo --run "$run"
fi

say "3/4 evaluation on 320 images that it never saw"
unscene evaluate "$run" "$data"

say "4/4 report"
report=$(unscene report "$run")
printf '\nThe report is at %s\n' "$(pwd)/$report"
