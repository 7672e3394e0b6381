#include "tools/bench_json.h"

#include "base/text.h"
#include "tensor/type.h"

void bench_json_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(out, "\\%c", *text);
        else if (text_is_control(*text))
            fprintf(out, "\\u%04x", (unsigned)(unsigned char)*text);
        else
            fputc(*text, out);
    }
    fputc('"', out);
}

static void print_text(FILE *out, const char *name, const char *text)
{
    fprintf(out, "\"%s\": ", name);
    bench_json_text(out, text);
    fputs(", ", out);
}

void bench_json_row(FILE *out, const struct bench_row *row)
{
    const struct bench_case *which = &row->which;
    bool is_barrier = which->operation == TUTTI_BARRIER;
    fputc('{', out);
    print_text(out, "op", operation_name((int)which->operation));
    print_text(out, "peer", row->peer);
    print_text(out, "transport", row->transport);
    fprintf(out, "\"ranks\": %d, \"bytes\": %zu, ", which->size, bench_bytes(which));
    print_text(out, "type", is_barrier ? "none" : type_name((int)which->type));
    fprintf(out,
            "\"in_place\": %s, \"symmetric\": %s, \"p50_us\": %.4f, \"p99_us\": %.4f, \"algbw_GBps\": %.6f, "
            "\"busbw_GBps\": %.6f, \"wrong\": %lld, \"cpu_s\": %.6f",
            which->in_place ? "true" : "false", row->symmetric ? "true" : "false", row->p50_us, row->p99_us,
            bench_algbw(row), bench_busbw(row), (long long)row->wrong, row->cpu_s);
    if (row->skew_us > 0)
        fprintf(out, ", \"skew_us\": %d, \"p999_us\": %.4f", row->skew_us, row->p999_us);
    fputs("}\n", out);
}
