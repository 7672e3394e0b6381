/* One JSON object a line: what `tutti bench -J` writes. */
#ifndef TUTTI_TOOLS_BENCH_JSON_H
#define TUTTI_TOOLS_BENCH_JSON_H

#include <stdio.h>
#include "tools/bench.h"

/* `text` in quotes, with what JSON does not allow in them escaped. */
void bench_json_text(FILE *out, const char *text);

void bench_json_row(FILE *out, const struct bench_row *row);

#endif
